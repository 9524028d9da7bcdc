//! What was replayed of a suffix: `replays.toml`, beside its manifest.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::Suffix;
use crate::log::disk::{self, Disk, Lock};
use crate::log::error::{Context, Error};
use crate::model::{Offset, Term};

const FILE: &str = "replays.toml";
const LOCK: &str = "replay.lock";
const VERSION: u16 = 1;

/// The replays of one suffix, oldest first. While this lives, no other process on this machine replays it.
#[derive(Debug)]
pub struct Replays {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    _lock: Box<dyn Lock>,
    pub all: Vec<Replay>,
}

/// One replay, as far as it got.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    pub began_ms: i64,
    /// Absent: it did not come to its end, or has not yet.
    pub ended_ms: Option<i64>,
    /// The producer id that its records have in the log.
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Records that the topic acknowledged.
    pub records: u64,
    /// Of the first and the last of them in the log; others' records may stand between.
    pub first_offset: Option<i64>,
    pub last_offset: Option<i64>,
    pub pending: Option<Pending>,
}

/// The request that was sent last, without an answer so far. A later replay sends it again as it was, with the
/// same sequences, and the leader takes it for the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    pub base_sequence: i32,
    pub records: u32,
    /// The first of its records, in the suffix.
    pub term: u64,
    pub offset: i64,
}

impl Pending {
    pub fn is_at(&self, term: Term, offset: Offset) -> bool {
        (self.term, self.offset) == (term.0, offset.0)
    }

    /// The sequence of what comes after it.
    pub fn next_sequence(&self) -> i32 {
        let next = (i64::from(self.base_sequence) + i64::from(self.records)) % (1 << 31);
        i32::try_from(next).expect("a remainder of 2^31 fits 31 bits")
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u16,
    #[serde(default)]
    replay: Vec<Replay>,
}

impl Suffix {
    /// The replays that there have been, oldest first, read beside one that is under way.
    pub fn replays(&self) -> Result<Vec<Replay>, Error> {
        let path = self.dir.join(FILE);
        if !self.disk().exists(&path).context("look for", &path)? {
            return Ok(Vec::new());
        }
        let bytes = self.disk().open_read(&path).and_then(|file| disk::read_all(&*file));
        decode(&bytes.context("read", &path)?)
            .map_err(|reason| Error::Malformed { path: path.clone(), reason })
    }

    /// For whoever is about to replay it; `Locked` if somebody else does.
    pub fn begin_replays(&self) -> Result<Replays, Error> {
        let (disk, path) = (self.disk().clone(), self.dir.join(FILE));
        let at = self.dir.join(LOCK);
        let lock = match disk.lock(&at, "isobar ledger replay") {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(Error::Locked { dir: self.dir.clone(), owner: error.to_string() });
            }
            lock => lock.context("lock", &at)?,
        };
        Ok(Replays { path, disk, _lock: lock, all: self.replays()? })
    }
}

impl Replays {
    /// Durably, all or nothing.
    pub fn save(&self) -> Result<(), Error> {
        disk::replace(&*self.disk, &self.path, encode(&self.all).as_bytes())
            .context("write", &self.path)
    }
}

fn encode(all: &[Replay]) -> String {
    let mut text =
        format!("# Written by isobar. What was sent again of this suffix.\nversion = {VERSION}\n");
    for replay in all {
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{name} = {value}").expect("a string takes all that is written");
        };
        line("\n[[replay]]\nbegan_ms", &replay.began_ms);
        line("producer_id", &replay.producer_id);
        line("producer_epoch", &replay.producer_epoch);
        line("records", &replay.records);
        let optional = [
            ("ended_ms", replay.ended_ms),
            ("first_offset", replay.first_offset),
            ("last_offset", replay.last_offset),
        ];
        for (name, value) in optional {
            value.inspect(|value| line(name, value));
        }
        if let Some(Pending { base_sequence, records, term, offset }) = replay.pending {
            line("pending.base_sequence", &base_sequence);
            line("pending.records", &records);
            line("pending.term", &term);
            line("pending.offset", &offset);
        }
    }
    text
}

fn decode(bytes: &[u8]) -> Result<Vec<Replay>, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let File { version, replay } = toml::from_str(text).map_err(|e| e.to_string())?;
    if version != VERSION {
        return Err(format!("has format version {version}; this binary reads version {VERSION}"));
    }
    Ok(replay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays_come_back_from_their_file() {
        let done = Replay {
            began_ms: 1,
            ended_ms: Some(2),
            producer_id: 3,
            producer_epoch: 0,
            records: 4,
            first_offset: Some(5),
            last_offset: Some(9),
            pending: None,
        };
        let pending = Pending { base_sequence: i32::MAX, records: 2, term: 65_537, offset: 8 };
        assert_eq!(pending.next_sequence(), 1);
        assert!(pending.is_at(Term(65_537), Offset(8)) && !pending.is_at(Term(65_538), Offset(8)));
        let begun = Replay {
            ended_ms: None,
            first_offset: None,
            last_offset: None,
            pending: Some(pending),
            ..done.clone()
        };
        let all = vec![done, begun];
        assert_eq!(decode(encode(&all).as_bytes()), Ok(all));
        assert_eq!(decode(encode(&[]).as_bytes()), Ok(Vec::new()));
        let newer = encode(&[]).replace("version = 1", "version = 2");
        assert!(decode(newer.as_bytes()).unwrap_err().contains("version 2"));
    }
}
