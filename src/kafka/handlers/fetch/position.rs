//! Where a fetch offset stands in a replica's log, and who may say what about it (R6): only a
//! leader says OFFSET_OUT_OF_RANGE, because only its word makes clients reset their position.

use super::super::super::wire::ErrorCode;
use crate::model::Offset;
use crate::replica::{Progress, Role};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// There are records to read.
    Readable,
    /// Nothing yet; wait for more.
    AtEnd,
    /// This follower or learner may lag behind what the client has seen elsewhere: wait, and say
    /// OFFSET_NOT_AVAILABLE if it does not come in time.
    Behind,
    Refused(ErrorCode),
}

pub(super) fn position(progress: &Progress, offset: Offset) -> Position {
    let Progress { log_start, high_watermark, log_end, .. } = *progress;
    let leads = progress.role == Role::Leader;
    if offset < log_start {
        // A follower's log start may be ahead of nobody's, but its leader is the one to say so.
        let code = if leads { ErrorCode::OffsetOutOfRange } else { ErrorCode::OffsetNotAvailable };
        return Position::Refused(code);
    }
    if offset < high_watermark {
        return Position::Readable;
    }
    if offset == high_watermark {
        return Position::AtEnd;
    }
    match progress.role {
        Role::Follower | Role::Learner => Position::Behind,
        // What another leader showed may be there and not known to be (KIP-207).
        Role::Leader if !progress.watermark_known => {
            Position::Refused(ErrorCode::OffsetNotAvailable)
        }
        Role::Leader if offset <= log_end => Position::AtEnd,
        Role::Leader => Position::Refused(ErrorCode::OffsetOutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leader_that_knows_its_watermark_says_out_of_range() {
        use ErrorCode::{OffsetNotAvailable, OffsetOutOfRange};
        use Position::{AtEnd, Behind, Readable, Refused};
        use Role::{Follower, Leader, Learner};
        let progress = |role, watermark_known| Progress {
            role,
            hands_over: false,
            handed_off: false,
            leader_epoch: 1,
            log_start: Offset(10),
            high_watermark: Offset(20),
            watermark_known,
            log_end: Offset(25),
        };
        let table = [
            (Leader, true, 9, Refused(OffsetOutOfRange)),
            (Leader, true, -1, Refused(OffsetOutOfRange)),
            (Leader, true, 10, Readable),
            (Leader, true, 20, AtEnd),
            (Leader, true, 25, AtEnd),
            (Leader, true, 26, Refused(OffsetOutOfRange)),
            (Leader, false, 19, Readable),
            (Leader, false, 20, AtEnd),
            (Leader, false, 21, Refused(OffsetNotAvailable)),
            (Leader, false, 99, Refused(OffsetNotAvailable)),
            (Follower, true, 9, Refused(OffsetNotAvailable)),
            (Follower, true, 19, Readable),
            (Follower, true, 21, Behind),
            (Learner, true, 20, AtEnd),
            (Learner, true, 99, Behind),
        ];
        for (role, known, offset, expected) in table {
            let found = position(&progress(role, known), Offset(offset));
            assert_eq!(found, expected, "{role:?} {known} {offset}");
        }
    }
}
