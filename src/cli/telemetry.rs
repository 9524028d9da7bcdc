//! What the process says of itself while it runs.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Without `RUST_LOG`: our own events from INFO, others' from WARN.
pub const DEFAULT_FILTER: &str = "warn,isobar=info,isobar_transport=info";

/// To standard error, so that standard output stays for what was asked.
pub fn init(default: Option<&str>) {
    let default = default.unwrap_or(DEFAULT_FILTER);
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal();
    let said = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours);
    said.with_writer(std::io::stderr).init();
}
