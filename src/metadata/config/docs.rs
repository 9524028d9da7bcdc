//! The manual of Kafka's topic configs, made from the table, so that the two cannot disagree.
//! `docs/topic-configs.md` is this text; a test holds it to that.

use std::fmt::Write;

use super::table::{Accepts, TABLE};

/// The whole of `docs/topic-configs.md`.
pub fn manual() -> String {
    let mut out = String::from(
        "# Topic configs\n\n\
         <!-- Generated from src/metadata/config/table.rs. To regenerate:\n     \
         ISOBAR_WRITE_DOCS=1 cargo test -p isobar --lib the_manual_of_topic_configs -->\n\n\
         Kafka's topic configs, as CreateTopics, AlterConfigs and DescribeConfigs know them. What \
         Isobar adds (`isobar.*`)\nand `min.insync.replicas` are in [configuration.md](configuration.md).\n\n\
         A config that is not listed in either place is refused by name, and so is a value that \
         would do nothing.\n\n\
         ## May be set\n\n\
         | config | default | accepts | meaning |\n|---|---|---|---|\n",
    );
    // Writing to a String cannot fail.
    for config in TABLE {
        let accepts = match config.accepts {
            Accepts::Range { min, max: i64::MAX } => format!("{min} or more"),
            Accepts::Range { min, max } => format!("{min} to {max}"),
            Accepts::Words(words) => words.join(", "),
            Accepts::DefaultOnly(_) => continue,
        };
        let (name, default, doc) = (config.name, config.default, config.doc);
        let _ = writeln!(out, "| `{name}` | `{default}` | {accepts} | {doc} |");
    }
    out.push_str(
        "\n## Are what they are\n\n\
         Shown, because tools ask for them, and accepted with this value only.\n\n\
         | config | value | why |\n|---|---|---|\n",
    );
    for config in TABLE {
        if let Accepts::DefaultOnly(why) = config.accepts {
            let _ = writeln!(out, "| `{}` | `{}` | {why} |", config.name, config.default);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_of_topic_configs_is_what_the_table_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/topic-configs.md");
        if std::env::var_os("ISOBAR_WRITE_DOCS").is_some() {
            std::fs::write(path, manual()).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == manual(),
            "docs/topic-configs.md is not what src/metadata/config/table.rs says; regenerate it:\n\
             ISOBAR_WRITE_DOCS=1 cargo test -p isobar --lib the_manual_of_topic_configs"
        );
    }

    #[test]
    fn every_default_is_a_value_that_would_be_accepted() {
        for config in TABLE {
            assert_eq!(config.check(config.default), Ok(()), "{}", config.name);
        }
        assert!(TABLE.is_sorted_by_key(|config| config.name));
    }
}
