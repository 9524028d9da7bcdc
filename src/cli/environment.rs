//! Settings from the environment: every flag that has a variable names it in its help.
//!
//! A flag counts before its variable, the variable before the topology file, the file before the
//! default. A variable of ours that nothing reads is an error, as an unknown flag is.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::ArgMatches;
use clap::parser::ValueSource;

const PREFIX: &str = "ISOBAR_";

/// Refuses a variable that looks like a setting and is none.
pub fn refuse_unknown(
    command: &clap::Command,
    names: impl Iterator<Item = OsString>,
) -> anyhow::Result<()> {
    let mut known = BTreeSet::new();
    collect(command, &mut known);
    for name in names {
        let name = name.to_string_lossy();
        anyhow::ensure!(
            !name.starts_with(PREFIX) || known.contains(name.as_ref()),
            "{name}: an unknown setting in the environment; there are {}",
            known.into_iter().collect::<Vec<_>>().join(", ")
        );
    }
    Ok(())
}

fn collect(command: &clap::Command, known: &mut BTreeSet<String>) {
    let names = command.get_arguments().filter_map(clap::Arg::get_env);
    known.extend(names.map(|name| name.to_string_lossy().into_owned()));
    command.get_subcommands().for_each(|sub| collect(sub, known));
}

/// Where the value of an argument is from; `otherwise` where it was not given.
pub fn source(matches: &ArgMatches, flag: &str, variable: &str, otherwise: &str) -> String {
    match matches.value_source(flag) {
        Some(ValueSource::CommandLine) => format!("--{}", flag.replace('_', "-")),
        Some(ValueSource::EnvVariable) => variable.to_owned(),
        _ => otherwise.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str) -> Option<String> {
        let command = clap::Command::new("isobar").subcommand(
            clap::Command::new("start").arg(clap::Arg::new("node").long("node").env("ISOBAR_NODE")),
        );
        let names = ["PATH".into(), "ISOBAR_NODE".into(), name.into()];
        refuse_unknown(&command, names.into_iter()).err().map(|error| error.to_string())
    }

    #[test]
    fn a_variable_that_nothing_reads_is_named() {
        assert_eq!(refused("HOME"), None);
        assert_eq!(
            refused("ISOBAR_NOED").unwrap(),
            "ISOBAR_NOED: an unknown setting in the environment; there are ISOBAR_NODE"
        );
    }
}
