//! Which segments time and size let go (`retention.ms`, `retention.bytes`).
//!
//! A pure question, asked by the leader; the answer becomes a logged entry, and every replica moves
//! its log start when it applies that (R24).

use crate::model::LogIndex;

use super::reader::SegmentMeta;
use super::state::LogStart;

/// What a topic keeps. `None`: no bound (Kafka's -1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    pub ms: Option<i64>,
    pub bytes: Option<u64>,
}

/// The log start that `retention` asks for, if it is beyond `start`. Only whole closed segments go,
/// the oldest first, and none with an entry at or above `keep_from`: what is not committed, or a
/// learner still needs, stays.
///
/// Age is by append time: the leader's clock, not the clients', decides.
pub fn log_start(
    segments: &[SegmentMeta],
    start: LogStart,
    retention: Retention,
    now_ms: i64,
    keep_from: LogIndex,
) -> Option<LogStart> {
    let mut bytes: u64 = segments.iter().map(|s| s.size_bytes).sum();
    let mut moved = None;
    for segment in segments {
        let too_old = |ms| now_ms.saturating_sub(segment.last_append_time_ms) > ms;
        // Kafka's: a segment goes if what remains without it is still the bound or more.
        let too_much = |max| bytes.saturating_sub(segment.size_bytes) >= max;
        let goes = retention.ms.is_some_and(too_old) || retention.bytes.is_some_and(too_much);
        if !goes || !segment.is_closed || segment.last_index >= keep_from {
            break;
        }
        bytes -= segment.size_bytes;
        moved = Some(LogStart {
            index: segment.last_index,
            term: segment.last_term,
            offset: segment.next_offset.max(start.offset),
        });
    }
    moved.filter(|m| m.index > start.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Offset, Term};

    /// Segments of ten entries and 100 bytes each, appended at 1000, 2000, …; the last is active.
    fn segments(count: u64) -> Vec<SegmentMeta> {
        (0..count)
            .map(|n| SegmentMeta {
                base_index: LogIndex(n * 10 + 1),
                base_offset: Offset(n as i64 * 50),
                last_index: LogIndex(n * 10 + 10),
                last_term: Term(3),
                next_offset: Offset(n as i64 * 50 + 50),
                size_bytes: 100,
                last_append_time_ms: (n as i64 + 1) * 1000,
                is_closed: n + 1 < count,
            })
            .collect()
    }

    #[test]
    fn only_whole_closed_segments_beyond_a_bound_go() {
        let all = u64::MAX;
        let none = Retention::default();
        let ms = |ms| Retention { ms: Some(ms), bytes: None };
        let bytes = |bytes| Retention { ms: None, bytes: Some(bytes) };
        // (what, retention, now, keep from, segments that go)
        let table = [
            ("no bound", none, 1 << 40, all, 0),
            ("none old enough", ms(1000), 2000, all, 0),
            ("the first is", ms(1000), 2001, all, 1),
            ("two are", ms(1000), 3001, all, 2),
            ("all are, but the active one stays", ms(0), 1 << 40, all, 3),
            ("a clock that went back", ms(1000), -5, all, 0),
            ("exactly at the bound in bytes", bytes(400), 0, all, 0),
            ("what remains must be the bound", bytes(301), 0, all, 0),
            ("one too many", bytes(300), 0, all, 1),
            ("zero bytes", bytes(0), 0, all, 3),
            ("either bound is enough", Retention { ms: Some(0), bytes: Some(300) }, 1001, all, 1),
            ("an uncommitted entry stays", ms(0), 1 << 40, 20, 1),
            ("one after it does not hold it", ms(0), 1 << 40, 21, 2),
        ];
        for (what, retention, now, keep_from, gone) in table {
            let found =
                log_start(&segments(4), LogStart::default(), retention, now, LogIndex(keep_from));
            let expected = (gone > 0).then(|| LogStart {
                index: LogIndex(gone * 10),
                term: Term(3),
                offset: Offset(gone as i64 * 50),
            });
            assert_eq!(found, expected, "{what}");
        }
    }

    #[test]
    fn log_start_never_goes_back() {
        let start = LogStart { index: LogIndex(20), term: Term(3), offset: Offset(170) };
        let retention = Retention { ms: Some(0), bytes: None };
        let two = &segments(4)[..2];
        assert_eq!(log_start(two, start, retention, 1 << 40, LogIndex(99)), None);
        let three = log_start(&segments(4), start, retention, 1 << 40, LogIndex(99)).unwrap();
        assert_eq!((three.index, three.offset), (LogIndex(30), Offset(170)));
    }
}
