//! What must hold in every state (I1 to I6), and what must be reachable.

use std::collections::BTreeMap;

use stateright::Property;

use super::state::{Acked, Mode, State};
use super::{ACKED_LATER, Failover, LOST, MOVED, RESTORED};

pub const SYNC_ACK: &str = "I1 what was acknowledged under sync is in the home's log";
pub const ONE_RECORD: &str = "I2 (term, index) names one record, in all logs and the ledger";
pub const EXPOSED: &str = "I3 what was shown under sync stays";
pub const CLAIM: &str = "I4 a verdict of RPO = 0 misses no acknowledgement of that epoch";
pub const LEDGER: &str = "I5 once all rejoined, every lost acknowledgement is in the ledger";
pub const CUT: &str = "I6 no home of a sealed epoch acknowledges under sync beyond the cut";
pub const TERMS_GROW: &str = "R2 terms only grow along a log";

pub fn all() -> Vec<Property<Failover>> {
    vec![
        Property::<Failover>::always(SYNC_ACK, |_, state| {
            let mut under_sync = state.acked.iter().filter(|acked| acked.mode == Mode::Sync);
            under_sync.all(|acked| is_home(state, acked))
        }),
        Property::<Failover>::always(ONE_RECORD, |_, state| one_record(state)),
        Property::<Failover>::always(EXPOSED, |_, state| {
            state.exposed.iter().all(|(index, entry)| state.home_log().get(*index) == Some(*entry))
        }),
        Property::<Failover>::always(CLAIM, |_, state| !state.claim_broken),
        Property::<Failover>::always(LEDGER, |_, state| {
            !all_rejoined(state) || {
                let kept = |acked: &Acked| {
                    let place = (acked.index, acked.entry);
                    state.dcs.iter().any(|dc| dc.saved.contains(&place))
                };
                state.acked.iter().all(|acked| is_home(state, acked) || kept(acked))
            }
        }),
        Property::<Failover>::always(CUT, |_, state| !state.beyond_cut),
        Property::<Failover>::always(TERMS_GROW, |_, state| {
            state.dcs.iter().all(|dc| dc.log.iter().map(|(_, e)| e.term).is_sorted())
        }),
        Property::<Failover>::sometimes(MOVED, |_, state| {
            state.failovers > 0 && !state.acked.is_empty()
        }),
        Property::<Failover>::sometimes(LOST, |_, state| {
            all_rejoined(state) && !state.acked.iter().all(|acked| is_home(state, acked))
        }),
        Property::<Failover>::sometimes(RESTORED, |_, state| {
            state.meta.sid >= 2 && state.meta.mode == Mode::Sync
        }),
        Property::<Failover>::sometimes(ACKED_LATER, |_, state| {
            state.acked.iter().any(|acked| acked.epoch >= 2)
        }),
    ]
}

fn is_home(state: &State, acked: &Acked) -> bool {
    state.home_log().get(acked.index) == Some(acked.entry)
}

fn all_rejoined(state: &State) -> bool {
    state.meta.sealing.is_none() && state.dcs.iter().all(|dc| dc.joined == state.meta.epoch)
}

fn one_record(state: &State) -> bool {
    let mut names = BTreeMap::new();
    state.dcs.iter().all(|dc| {
        let mut entries = dc.log.iter().chain(dc.saved.iter().copied());
        entries.all(|(index, entry)| {
            *names.entry((index, entry.term)).or_insert(entry.value) == entry.value
        })
    })
}
