//! The rules of the core that can be switched off, each with the bounds within which its absence
//! must be found.

use super::properties::{CLAIM, EXPOSED, LEDGER, ONE_RECORD, SYNC_ACK};
use super::{BASE, Failover};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    DisjointTerms,
    ExposeBelowHw,
    OwnTerm,
    RecordThenWeaken,
    NewGrant,
    EnforceThenRecord,
    Seal,
    PersistedLog,
    EnoughDcs,
    EverSync,
    TermFirst,
    TargetHoldsCut,
    SaveThenCut,
}

pub struct Mutation {
    pub rule: Rule,
    pub name: &'static str,
    pub text: &'static str,
    pub property: &'static str,
    pub bounds: Failover,
}

const fn mutation(
    rule: Rule,
    name: &'static str,
    text: &'static str,
    property: &'static str,
    bounds: Failover,
) -> Mutation {
    Mutation { rule, name, text, property, bounds }
}

const MODES: Failover = Failover { elections: 0, mode_changes: 2, ..BASE };
const TWO: Failover = Failover { records: 2, elections: 1, mode_changes: 1, ..BASE };
const TWO_ELECTIONS: Failover = Failover { records: 1, elections: 2, ..BASE };
const LONG_LOGS: Failover = Failover { records: 3, elections: 1, ..BASE };

pub const MUTATIONS: [Mutation; 13] = [
    mutation(Rule::DisjointTerms, "terms", "R2 terms of epochs are disjoint", ONE_RECORD, TWO),
    mutation(Rule::ExposeBelowHw, "expose", "R5 what is shown is below HW", EXPOSED, TWO),
    mutation(Rule::OwnTerm, "own-term", "R5 HW moves to own terms only", SYNC_ACK, TWO_ELECTIONS),
    mutation(Rule::RecordThenWeaken, "weaken", "R7 record, then weaken", CLAIM, MODES),
    mutation(Rule::NewGrant, "grant", "R7 a grant is newer than the log's", CLAIM, MODES),
    mutation(Rule::EnforceThenRecord, "strengthen", "R8 enforce, then record", CLAIM, MODES),
    mutation(Rule::Seal, "seal", "R10 the sealed refuse the old home", SYNC_ACK, TWO),
    mutation(Rule::PersistedLog, "persisted", "R10 judge by what is persisted", SYNC_ACK, TWO),
    mutation(Rule::EnoughDcs, "enough", "R11 n - k + 1 DCs sealed", SYNC_ACK, TWO),
    mutation(Rule::EverSync, "ever-sync", "R11 once sync, always n - k + 1", SYNC_ACK, TWO),
    mutation(Rule::TermFirst, "term-first", "R12 term before index", SYNC_ACK, LONG_LOGS),
    mutation(Rule::TargetHoldsCut, "target", "R13 the target holds the cut", SYNC_ACK, TWO),
    mutation(Rule::SaveThenCut, "ledger", "R15 save, then cut", LEDGER, TWO),
];
