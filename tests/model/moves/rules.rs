//! The rules of a move's steps that can be switched off.

use super::properties::{CLAIM, HOLD, ONCE, SYNC_ACK};
use super::{ASYNC, Moves, SYNC};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The register is compared when the command is applied, not when it was proposed.
    CasAtApply,
    ChooseByCas,
    FencePrepare,
    TargetReported,
    ClaimOfTheCut,
    SealHome,
    NeverResume,
}

pub struct Mutation {
    pub rule: Rule,
    pub name: &'static str,
    pub text: &'static str,
    pub property: &'static str,
    pub bounds: Moves,
}

const fn mutation(
    rule: Rule,
    name: &'static str,
    text: &'static str,
    property: &'static str,
    bounds: Moves,
) -> Mutation {
    Mutation { rule, name, text, property, bounds }
}

/// Who activates twice needs no record for it.
const EMPTY: Moves = Moves { records: 0, ..SYNC };

pub const MUTATIONS: [Mutation; 7] = [
    mutation(Rule::CasAtApply, "cas", "R13 one CAS, compared at apply", ONCE, EMPTY),
    mutation(Rule::ChooseByCas, "choose", "R12+ the cut is chosen by a CAS", HOLD, SYNC),
    mutation(Rule::FencePrepare, "attempt", "R13+ no order older than the last", HOLD, SYNC),
    mutation(Rule::TargetReported, "target", "R12+ the target has reported", CLAIM, ASYNC),
    mutation(Rule::ClaimOfTheCut, "claim", "R13+ a claim is of what made the cut", CLAIM, ASYNC),
    mutation(Rule::SealHome, "seal-home", "R18 a hand-off seals the home", CLAIM, ASYNC),
    mutation(Rule::NeverResume, "resume", "R18 a sealed epoch never goes on", SYNC_ACK, SYNC),
];
