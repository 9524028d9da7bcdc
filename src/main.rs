//! The one binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    match isobar::cli::main() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain, and never a backtrace: it is for a person who mistyped an address.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
