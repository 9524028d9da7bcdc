//! Commands of the design that later releases bring. They are not in the help; who types one is told
//! the truth rather than "unrecognized".

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

pub fn refuse(command: &str, what: &str, _args: &Args) -> anyhow::Result<()> {
    anyhow::bail!("isobar {command}: not built yet: {what}. README.md lists what is")
}
