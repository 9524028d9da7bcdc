//! From the records of `__meta` to the image: pure, so that a test can feed it any log.
//!
//! A log that starts at 0 starts with the empty image; any other must start with a snapshot.

use super::apply::{Outcome, apply};
use super::command::{self, Command};
use super::image::Image;
use super::snapshot::{self, Assembly, Part};
use crate::model::Offset;

/// Records after which a snapshot is due. Replaying so many takes a fraction of a second.
pub const SNAPSHOT_RECORDS: u64 = 10_000;

/// Bytes of commands after which a snapshot is due, or twice the size of the last snapshot if that
/// is more: so a large image is not written out for every few commands, and the log of `__meta`
/// stays below about four images.
pub const SNAPSHOT_BYTES: u64 = 4 << 20;

/// A log that cannot be replayed. The node must not go on: its image would be another cluster's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("__meta at offset {at}: {source}")]
    Command { at: Offset, source: command::Error },
    #[error("__meta starts at offset {start}, which is not the start of a whole snapshot")]
    NoSnapshot { start: Offset },
    #[error("__meta: the snapshot at offset {at}: {source}")]
    Snapshot { at: Offset, source: snapshot::Error },
    #[error(
        "__meta: the snapshot at offset {at} differs from this node's image: one of them is wrong"
    )]
    Diverged { at: Offset },
    #[error("__meta: offset {found} where {expected} was due")]
    Gap { expected: Offset, found: Offset },
}

/// Reads the log of `__meta` record by record.
#[derive(Debug, Clone)]
pub struct Replay {
    image: Image,
    /// `false` until the snapshot at log start is whole.
    complete: bool,
    start: Offset,
    assembly: Assembly,
    since: Since,
    last_snapshot: Option<Offset>,
}

/// What was read since the last whole snapshot.
#[derive(Debug, Clone, Copy, Default)]
struct Since {
    records: u64,
    bytes: u64,
    snapshot_bytes: u64,
}

impl Replay {
    /// For a log whose first record is at `start`.
    pub fn new(start: Offset) -> Self {
        Self {
            image: Image { next_offset: start, ..Image::default() },
            complete: start == Offset::ZERO,
            start,
            assembly: Assembly::default(),
            since: Since::default(),
            last_snapshot: None,
        }
    }

    /// The offset of the record that is due.
    pub fn next_offset(&self) -> Offset {
        self.image.next_offset
    }

    /// The image, once there is one.
    pub fn image(&self) -> Option<&Image> {
        self.complete.then_some(&self.image)
    }

    /// Where the last whole snapshot starts: log start may move there.
    pub fn last_snapshot(&self) -> Option<Offset> {
        self.last_snapshot
    }

    /// Whether so much was read since the last snapshot that the leader should write another.
    pub fn is_snapshot_due(&self) -> bool {
        let bytes_max = SNAPSHOT_BYTES.max(2 * self.since.snapshot_bytes);
        self.complete && (self.since.records >= SNAPSHOT_RECORDS || self.since.bytes >= bytes_max)
    }

    /// Takes the record at `offset`.
    pub fn step(&mut self, offset: Offset, value: Option<&[u8]>) -> Result<Outcome, Error> {
        let expected = self.next_offset();
        if offset != expected {
            return Err(Error::Gap { expected, found: offset });
        }
        let failed = |source| Error::Command { at: offset, source };
        let value = value.ok_or(command::Error::Empty).map_err(failed)?;
        let command = Command::decode(value).map_err(failed)?;
        match command {
            Command::Snapshot(part) => self.take_part(offset, &part).map(|()| Ok(())),
            _ if !self.complete => Err(Error::NoSnapshot { start: self.start }),
            command => {
                self.assembly.clear();
                self.since.records += 1;
                self.since.bytes += value.len() as u64;
                Ok(apply(&mut self.image, offset, command))
            }
        }
    }

    fn take_part(&mut self, offset: Offset, part: &Part) -> Result<(), Error> {
        let whole = self.assembly.add(offset, part);
        self.image.next_offset = offset.plus(1);
        let Some((at, bytes)) = whole else {
            return if self.complete || self.assembly.is_open() {
                Ok(())
            } else {
                Err(Error::NoSnapshot { start: self.start })
            };
        };
        let read = snapshot::decode(&bytes, self.image.next_offset);
        let read = read.map_err(|source| Error::Snapshot { at, source })?;
        if !self.complete {
            self.image = read;
            self.complete = true;
        } else if snapshot::encode(&read) != snapshot::encode(&self.image) {
            return Err(Error::Diverged { at });
        }
        self.last_snapshot = Some(at);
        self.since = Since { snapshot_bytes: bytes.len() as u64, ..Since::default() };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::metadata::fixture::{World, n, node, text, text_with_sync, topic};
    use crate::metadata::image::Node;
    use crate::metadata::request::{
        AlterConfigs, ConfigChange, ConfigOp, NewPartitions, Request, TopicRef,
    };
    use crate::metadata::{controller, snapshot};

    fn request() -> impl Strategy<Value = Request> {
        let name = || (0..6u8).prop_map(|i| format!("topic-{i}"));
        let create = (name(), 1..4i32).prop_map(|(name, partitions)| Request::CreateTopics {
            topics: vec![topic(&name, partitions, &[])],
            validate_only: false,
        });
        let delete =
            name().prop_map(|name| Request::DeleteTopics { topics: vec![TopicRef::Name(name)] });
        let grow = (name(), 2..6i32).prop_map(|(topic, count)| Request::CreatePartitions {
            topics: vec![NewPartitions { topic, count, assignments: None }],
            validate_only: false,
        });
        let alter = (name(), 0..9i64).prop_map(|(topic, ms)| {
            let (key, value) = ("retention.ms".to_owned(), ms.to_string());
            let change = ConfigChange::Incremental(vec![ConfigOp::Set { key, value }]);
            Request::AlterConfigs {
                topics: vec![AlterConfigs { topic, change }],
                validate_only: false,
            }
        });
        let register = (1..=9u64, 0..3u8, any::<bool>()).prop_map(|(id, disk, admit)| {
            let disk = [disk * 16 + id as u8; 16];
            match admit {
                true => Request::AdmitDisk { node: n(id), disk, accept_loss: true },
                false => Request::RegisterNode(Node { disk, ..node(id) }),
            }
        });
        let apply = (0..2u8).prop_map(|which| Request::ApplyTopology {
            text: if which == 0 { text() } else { text_with_sync() },
            expected_generation: None,
            validate_only: false,
        });
        prop_oneof![
            4 => create, 1 => delete, 2 => grow, 2 => alter, 2 => register, 1 => apply,
            1 => Just(Request::AllocateProducerIds),
        ]
    }

    /// The commands of a cluster's life, with stale ones in between, as encoded values.
    fn history(requests: Vec<(Request, bool)>) -> Vec<Bytes> {
        let mut world = World::empty(&text());
        for (request, again) in requests {
            let before = world.commands.len();
            let _ = world.ask(request);
            for placement in controller::repair(&world.image) {
                world.apply(Command::ReplacePlacement(placement)).unwrap();
            }
            if again {
                // As if another leader had written the same: refused, or of no effect.
                let written: Vec<Command> = world.commands[before..].to_vec();
                for command in written {
                    let _ = world.apply(command);
                }
            }
        }
        world.commands.iter().map(Command::encode).collect()
    }

    fn feed(replay: &mut Replay, values: &[Bytes]) {
        for value in values {
            let _refused_or_not = replay.step(replay.next_offset(), Some(value)).unwrap();
        }
    }

    fn parts(replay: &Replay) -> Vec<Bytes> {
        let parts = snapshot::parts(replay.image().unwrap());
        parts.into_iter().map(|part| Command::Snapshot(part).encode()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn a_replay_of_all_is_a_replay_from_any_snapshot(
            requests in proptest::collection::vec((request(), any::<bool>()), 1..30),
            at in any::<prop::sample::Index>(),
        ) {
            let values = history(requests);
            let (before, after) = values.split_at(at.index(values.len() + 1));
            let mut whole = Replay::new(Offset::ZERO);
            feed(&mut whole, before);
            let start = whole.next_offset();
            let snapshot = parts(&whole);
            feed(&mut whole, &snapshot);
            prop_assert_eq!(whole.last_snapshot(), Some(start));
            feed(&mut whole, after);

            let mut from_snapshot = Replay::new(start);
            feed(&mut from_snapshot, &snapshot);
            feed(&mut from_snapshot, after);
            prop_assert_eq!(from_snapshot.image().unwrap(), whole.image().unwrap());
            prop_assert_eq!(
                snapshot::encode(from_snapshot.image().unwrap()),
                snapshot::encode(whole.image().unwrap())
            );
        }
    }

    fn large() -> Replay {
        let mut world = World::new();
        world.create(topic("wide", 3_000, &[])).unwrap();
        let values: Vec<Bytes> = world.commands.iter().map(Command::encode).collect();
        let mut replay = Replay::new(Offset::ZERO);
        feed(&mut replay, &values);
        replay
    }

    #[test]
    fn a_large_image_comes_in_parts_that_fit_a_record() {
        let mut replay = large();
        let (start, parts) = (replay.next_offset(), parts(&replay));
        assert!(parts.len() >= 2);
        assert!(parts.iter().all(|part| part.len() <= snapshot::PART_BYTES_MAX + 64));
        let mut from_snapshot = Replay::new(start);
        feed(&mut from_snapshot, &parts[..parts.len() - 1]);
        assert_eq!(from_snapshot.image(), None, "not whole yet");
        feed(&mut from_snapshot, &parts[parts.len() - 1..]);
        feed(&mut replay, &parts);
        assert_eq!(from_snapshot.image(), replay.image());
    }

    #[test]
    fn an_interrupted_snapshot_is_none_and_the_next_one_counts() {
        let mut replay = large();
        let interrupted = parts(&replay);
        feed(&mut replay, &interrupted[..1]);
        let between = Command::RegisterNode(node(1).into()).encode();
        feed(&mut replay, &[between]);
        feed(&mut replay, &interrupted[1..]);
        assert_eq!(replay.last_snapshot(), None);
        let start = replay.next_offset();
        let whole = parts(&replay);
        feed(&mut replay, &whole);
        assert_eq!(replay.last_snapshot(), Some(start));
    }

    #[test]
    fn a_log_that_starts_in_the_middle_of_nothing_is_refused() {
        let value = Command::RegisterNode(node(1).into()).encode();
        let mut replay = Replay::new(Offset(7));
        let error = replay.step(Offset(7), Some(&value)).unwrap_err();
        assert_eq!(error, Error::NoSnapshot { start: Offset(7) });
        let parts = parts(&large());
        let mut replay = Replay::new(Offset(7));
        let error = replay.step(Offset(7), Some(&parts[1])).unwrap_err();
        assert_eq!(error, Error::NoSnapshot { start: Offset(7) });
    }

    #[test]
    fn a_snapshot_of_another_image_stops_the_node() {
        let mut replay = large();
        let mut other = replay.image().unwrap().clone();
        other.nodes.remove(&n(3));
        let parts = snapshot::parts(&other);
        let at = replay.next_offset();
        let mut results = parts.into_iter().map(|part| {
            let value = Command::Snapshot(part).encode();
            replay.step(replay.next_offset(), Some(&value))
        });
        assert_eq!(results.find_map(Result::err), Some(Error::Diverged { at }));
    }

    #[test]
    fn what_cannot_be_read_stops_the_node_and_is_never_skipped() {
        let mut replay = Replay::new(Offset::ZERO);
        let mut step = |value: Option<&[u8]>| match replay.step(Offset::ZERO, value) {
            Err(Error::Command { source, .. }) => source,
            other => panic!("{other:?}"),
        };
        assert_eq!(step(None), command::Error::Empty);
        assert!(matches!(step(Some(b"\xff\xff")), command::Error::Protobuf(_)));
        assert_eq!(step(Some(&[8, 2, 16, 1])), command::Error::Version(2));
        assert_eq!(step(Some(&[8, 1, 16, 9])), command::Error::FeatureLevel(9));
        // Field 99, which no command of this software has.
        assert_eq!(step(Some(&[8, 1, 16, 1, 0x9a, 6, 0])), command::Error::Unknown);
        assert_eq!(
            replay.step(Offset(3), None),
            Err(Error::Gap { expected: Offset::ZERO, found: Offset(3) })
        );
    }

    #[test]
    fn a_snapshot_is_due_after_so_many_records_and_not_again_at_once() {
        let mut replay = Replay::new(Offset::ZERO);
        let value = Command::AllocateProducerIds { first: -1, count: 0 }.encode();
        for _ in 0..SNAPSHOT_RECORDS - 1 {
            feed(&mut replay, std::slice::from_ref(&value));
        }
        assert!(!replay.is_snapshot_due());
        feed(&mut replay, &[value]);
        assert!(replay.is_snapshot_due());
        let snapshot = parts(&replay);
        feed(&mut replay, &snapshot);
        assert!(!replay.is_snapshot_due());
    }
}
