//! The one binary.

fn main() -> anyhow::Result<()> {
    isobar::cli::main()
}
