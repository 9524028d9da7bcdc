//! What happens in a world, each thing at its time.

use isobar::metadata::lease::Wait;
use isobar::metadata::moves::carrier::Attempt;

use crate::aims::Moment;
use crate::calls::{Answered, Call};
use crate::client::{Request, Response};
use crate::disk::Read;
use crate::faults::{Fault, Undo};
use crate::groups::{Ask, Told};
use crate::network::Arrival;
use crate::operator::Plan;
use crate::ranges::Bulk;

pub enum Event {
    Tick(usize, u64),
    Checkpoint(usize, u64),
    Retain(usize, u64),
    Round(usize, u64),
    Frame(Arrival),
    Lost {
        at: usize,
        peer: usize,
    },
    Up {
        at: usize,
        peer: usize,
    },
    Committed(usize, u64),
    Read(usize, u64, Box<Read>),
    Bulk(usize, u64, Box<Bulk>),
    Think(usize),
    Retry(usize),
    Request(usize, Box<Request>),
    Respond(usize, u64, Response),
    GiveUp(usize, u64),
    Follow(usize),
    Fault(Fault),
    Aimed(usize, u64, Moment),
    Undo(Undo),
    Start(usize),
    Healed,
    Watch,
    /// Clients that have waited for this begin.
    Late,
    Answered,
    Look,
    MetaLook,
    MetaShift,
    Proposed(u64),
    MetaCommit(u64, u64),
    Decided(u64, Box<Result<(), String>>),
    /// A node hears of `__meta` up to this image.
    Learn(usize, usize),
    Reconcile(usize, u64),
    LookForRot(usize, u64),
    Emptied(usize),
    Carry(u64),
    Leases(u64, Attempt, Box<Wait>),
    Called(Box<Call>),
    Answer(u64, Box<Answered>),
    Impatient(usize, u64, u64),
    Operate(Plan),
    /// A node asks to be let in with an empty disk.
    Admit(usize),
    Consume(usize),
    Coordinate(usize, usize, u64, Box<Ask>),
    Told(usize, u64, Box<Told>),
    /// A consumer waits no longer.
    Impatience(usize, u64),
}
