//! The manual of the topology file, made from the tables that the reader itself uses, so that the
//! two cannot disagree. `docs/configuration.md` is this text; a test holds it to that.

use std::fmt::Write;

use crate::options::{Change, Entry, POLICY, SECTIONS, Section};
use crate::unit;

/// The example of the manual: a complete file, which a test parses.
pub const EXAMPLE: &str = include_str!("example.toml");

const HEAD: &str = "\
# Configuration

<!-- Generated from topology/src/options.rs. To regenerate:
     ISOBAR_WRITE_DOCS=1 cargo test -p isobar-topology the_manual -->

One TOML file describes the cluster: its datacenters, nodes, links and policies. Every node reads the
same file. `isobar topology check FILE` reports every mistake in it, each with its line, its key, what
was found and what would be right; a key that is not listed here is a mistake, too.

What counts is not the file but the generation that the cluster agreed on (kept in `__meta`). A changed
file is a proposal: `isobar plan FILE` shows what it would mean and what is refused, `isobar topology
apply FILE` puts it in force. It never moves a topic's home.

";

/// The whole of `docs/configuration.md`.
pub fn configuration() -> String {
    let mut out = HEAD.to_owned();
    units(&mut out);
    // Writing to a String cannot fail.
    let _ = write!(out, "## Example\n\n```toml\n{EXAMPLE}```\n\n");
    for one in SECTIONS {
        section(&mut out, one);
    }
    topics(&mut out);
    out
}

fn units(out: &mut String) {
    let _ = write!(
        out,
        "## Units\n\n\
         - duration: {}\n\
         - bandwidth: {}\n\
         - size: {}\n\n",
        unit::DURATION_EXPECTED,
        unit::BANDWIDTH_EXPECTED,
        unit::BYTES_EXPECTED
    );
}

fn section(out: &mut String, section: &Section) {
    let _ = write!(out, "## {}\n\n", title(section.header));
    if !section.doc.is_empty() {
        let _ = write!(out, "{}\n\n", section.doc);
    }
    out.push_str("| key | value | default | |\n|---|---|---|---|\n");
    for entry in section.entries {
        let (kind, default) = (entry.kind.as_str(), cell(entry.default));
        let _ = writeln!(out, "| `{}` | {kind} | {default} | {} |", entry.name, manual(entry));
    }
    out.push('\n');
}

fn title(header: &str) -> String {
    if header.starts_with('[') { format!("`{header}`") } else { format!("The {header}") }
}

fn manual(entry: &Entry) -> String {
    cell(entry.doc)
}

/// A pipe would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn topics(out: &mut String) {
    out.push_str(
        "## Topic configs\n\n\
         The same keys on one topic, for CreateTopics, IncrementalAlterConfigs and the tools that speak\n\
         them (`kafka-topics`, `kafka-configs`, Terraform). A topic's own value comes before its policy's;\n\
         `isobar topic describe` shows each value and where it came from. Segments and retention stay\n\
         Kafka's own topic configs (`segment.bytes`, `retention.ms`, …).\n\n\
         | topic config | value | of a topic that exists |\n|---|---|---|\n",
    );
    for entry in POLICY {
        let Some(config) = entry.topic_config else { continue };
        let change = match entry.change {
            Change::Live => "may change",
            Change::AtCreation => "stays as at its creation",
        };
        let _ = writeln!(out, "| `{config}` | {} | {change} |", entry.kind.as_str());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topology;

    #[test]
    fn the_manual_says_what_the_reader_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let made = configuration();
        if std::env::var_os("ISOBAR_WRITE_DOCS").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == made,
            "docs/configuration.md is not what topology/src/options.rs says; regenerate it:\n\
             ISOBAR_WRITE_DOCS=1 cargo test -p isobar-topology the_manual"
        );
    }

    #[test]
    fn the_example_of_the_manual_is_a_topology_without_a_warning() {
        let (topology, warnings) = Topology::parse(EXAMPLE).unwrap_or_else(|p| panic!("{p}"));
        assert_eq!(warnings, []);
        assert_eq!(topology.data_dcs().count(), 2);
        assert_eq!(topology.policy("internal").unwrap().settings.replication.sync_to(), 1);
    }
}
