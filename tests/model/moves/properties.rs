//! What must hold whoever coordinates.

use stateright::Property;

use super::Moves;
use super::state::{Choice, Phase, Side, State};

pub const SYNC_ACK: &str = "I1 what is acknowledged under sync is within the cut";
pub const CLAIM: &str = "I4 a proven cut misses no acknowledgement";
pub const HOLD: &str = "R13 a majority of the new home holds exactly the cut";
pub const ONCE: &str = "R13 an epoch is activated once";
pub const TAKEN_OVER: &str = "a move that one began and another ended, with acknowledged records";
pub const ABORTED: &str = "a switchover aborted: the old home is the new one";

pub fn all() -> Vec<Property<Moves>> {
    vec![
        Property::<Moves>::always(SYNC_ACK, |model, state| {
            !model.is_sync || moved(state).is_none_or(|choice| state.acked <= choice.cut)
        }),
        Property::<Moves>::always(CLAIM, |_, state| {
            moved(state).is_none_or(|choice| !choice.proven || state.acked <= choice.cut)
        }),
        Property::<Moves>::always(HOLD, |_, state| {
            moved(state).is_none_or(|Choice { target, cut, .. }| {
                let holders = target.replicas().filter(|at| state.replicas[*at].len == cut);
                holders.count() >= target.majority()
            })
        }),
        Property::<Moves>::always(ONCE, |_, state| !state.twice),
        Property::<Moves>::sometimes(TAKEN_OVER, |_, state| {
            let second = state.coordinators[1].is_some_and(|c| c.choice.is_some() && c.held != 0);
            let first = state.coordinators[0].is_some_and(|c| c.choice.is_some());
            moved(state).is_some() && first && second && state.acked > 0
        }),
        Property::<Moves>::sometimes(ABORTED, |_, state| {
            moved(state).is_some_and(|choice| choice.target == Side::A)
        }),
    ]
}

fn moved(state: &State) -> Option<Choice> {
    match state.phase {
        Phase::Moved(choice) => Some(choice),
        _ => None,
    }
}
