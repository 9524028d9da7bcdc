//! Seeded walks through a model far beyond the bounds that can be exhausted: at every step one of
//! the possible actions, until none is left or the walk is long enough.

use std::fmt::Display;
use std::time::Instant;

use stateright::{Expectation, Model};

use crate::check::{Answer, Concern};

/// The first seed of a run without one of its own: the same walks at every commit.
const SEED: u64 = 1;

/// Walks of a case, and of one with `ISOBAR_LONG=1`.
const WALKS: u64 = 4_000;
const WALKS_LONG: u64 = 400_000;

/// Most walks end by themselves: everything in the models is counted, and the budgets run out.
const STEPS_MAX: usize = 400;

/// `ISOBAR_MODEL_SEED` names one walk; without it there are many, from [`SEED`] on.
pub fn all<M: Concern>(name: &str, model: &M) -> Answer {
    let begun = Instant::now();
    let one = crate::number("ISOBAR_MODEL_SEED");
    let walks = if crate::is_long() { WALKS_LONG } else { WALKS };
    let seeds = one.map_or(SEED..SEED + walks, |seed| seed..seed + 1);
    let mut answer = Answer::default();
    for seed in seeds {
        let mut trace = Vec::new();
        let broken = walk(model, seed, &mut trace);
        answer.states += trace.len();
        answer.depth = answer.depth.max(trace.len());
        if let Some(property) = broken {
            let again = format!(
                "reproduce: ISOBAR_MODEL={name} ISOBAR_MODEL_SEED={seed} cargo test --release --test model"
            );
            answer.failure = Some(format!("broken: {property}\n{again}"));
            answer.trace = trace.iter().map(ToString::to_string).collect();
            break;
        }
    }
    answer.seconds = begun.elapsed().as_secs_f64();
    answer
}

/// One walk; the property that it broke, if it did.
fn walk<M>(model: &M, seed: u64, trace: &mut Vec<M::Action>) -> Option<&'static str>
where
    M: Model<Action: Clone + Display>,
{
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let always: Vec<_> = model
        .properties()
        .into_iter()
        .filter(|property| property.expectation == Expectation::Always)
        .collect();
    let mut starts = model.init_states();
    let mut state = starts.swap_remove(random.below(starts.len()));
    let mut actions = Vec::new();
    while trace.len() < STEPS_MAX {
        if let Some(broken) = always.iter().find(|p| !(p.condition)(model, &state)) {
            return Some(broken.name);
        }
        actions.clear();
        model.actions(&state, &mut actions);
        state = loop {
            if actions.is_empty() {
                return None;
            }
            let action = actions.swap_remove(random.below(actions.len()));
            if let Some(next) = model.next_state(&state, action.clone()) {
                trace.push(action);
                break next;
            }
        };
    }
    None
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
