//! A person's word before something is done that cannot be taken back.

use std::io::{BufRead as _, Write as _};

/// Asks on stderr, since stdout may be a pipe; anything but a yes is a no, and so is the end of the input.
pub fn confirmed(question: &str) -> anyhow::Result<bool> {
    eprint!("{question} [yes/no] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "yes" | "y"))
}
