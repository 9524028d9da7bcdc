//! From text to a checked [`Topology`], or to everything that is wrong with it.
//!
//! ```text
//!  text ── toml ──▶ table with spans ── sections ──▶ Draft ── check ──▶ Topology
//!            │                             │                    │
//!            └─────────── problems ────────┴────────────────────┘   all of them, by line
//! ```
//!
//! A [`Draft`] has a hole where a value could not be read, so that one mistake does not hide the
//! next, nor cause a second report. Where the text is no TOML, the rest is read as far as it goes,
//! and what seems missing is not reported: it may stand in the part that was lost.

mod address;
mod check;
mod policies;
mod reader;
mod sections;

use toml::de::DeTable;

use crate::topology::{Cluster, Compression, Dc, Link, Listener, Node, NodeTls};
use crate::unit::Bandwidth;
use crate::{DcName, NodeId, Problem, Problems, Severity, Topology, Warning};
use reader::Reader;

/// A topology file is kept in `__meta` and travels in one command; a thousand nodes take a third of
/// this. Longer text is refused unread.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// Every two DCs need a link, so links grow by the square.
pub const DCS_MAX: usize = 32;
/// Beyond this a plan, a console page and a metric label set become unreadable long before Isobar
/// becomes slow; where it is refused, a generator has run away.
pub const NODES_MAX: usize = 1000;
/// A plan says a dozen lines of each.
pub const POLICIES_MAX: usize = 100;
/// Of all policies together. Every topic is held against every pattern, and every pattern with the
/// same literal prefix against every other, at a cost of the product of their lengths.
pub const PATTERNS_MAX: usize = 500;

/// The format that this reader knows.
pub const VERSION: i64 = 1;

pub(crate) fn topology(text: &str) -> Result<(Topology, Vec<Warning>), Problems> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Problems::new(vec![Problem {
            severity: Severity::Error,
            line: 1,
            key: String::new(),
            found: format!("{} bytes", text.len()),
            expected: format!("at most {TEXT_BYTES_MAX}"),
        }]));
    }
    let (document, syntax) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(text, document.get_ref(), &syntax);
    let draft = sections::draft(&mut reader, document.get_ref());
    let whole = if reader.damaged() { None } else { check::whole(&mut reader, draft, text) };
    let errors = reader.has_errors();
    let mut problems = reader.finish();
    match whole {
        Some(topology) if !errors => {
            problems.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
            Ok((topology, problems))
        }
        _ => Err(Problems::new(problems)),
    }
}

/// What could be read. `None` is a hole that has been reported.
#[derive(Default)]
struct Draft {
    cluster: Option<Cluster>,
    dcs: Vec<At<DraftDc>>,
    nodes: Vec<At<DraftNode>>,
    links: Vec<At<DraftLink>>,
    policies: Vec<policies::Draft>,
}

/// Something and the path of its key.
struct At<T> {
    path: String,
    value: T,
}

struct DraftDc {
    name: Option<DcName>,
    witness: Option<bool>,
}

struct DraftNode {
    id: Option<NodeId>,
    dc: Option<DcName>,
    peer: Option<crate::Address>,
    data_dirs: Option<Vec<std::path::PathBuf>>,
    /// In the order of the file.
    listeners: Vec<Option<Listener>>,
    admin: Option<crate::Address>,
    tls: Option<NodeTls>,
}

struct DraftLink {
    between: Option<(DcName, DcName)>,
    rtt: Option<std::time::Duration>,
    bandwidth: Option<Bandwidth>,
    compression: Option<Compression>,
}

impl DraftDc {
    fn finish(self) -> Option<Dc> {
        Some(Dc { name: self.name?, witness: self.witness? })
    }
}

impl DraftNode {
    fn finish(self) -> Option<Node> {
        Some(Node {
            id: self.id?,
            dc: self.dc?,
            peer: self.peer?,
            data_dirs: self.data_dirs?,
            listeners: self.listeners.into_iter().collect::<Option<Vec<_>>>()?,
            admin: self.admin?,
            tls: self.tls?,
        })
    }
}

impl DraftLink {
    fn finish(self) -> Option<Link> {
        Some(Link {
            between: self.between?,
            rtt: self.rtt?,
            bandwidth: self.bandwidth?,
            compression: self.compression?,
        })
    }
}

#[cfg(test)]
mod tests;
