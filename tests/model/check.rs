//! What can be asked of a model: that it is clean within its bounds, that a rule switched off is
//! caught, and that seeded walks far beyond the bounds meet nothing.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::hash::Hash;
use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::walk;

/// One question, with everything that its line of the report needs.
pub struct Case {
    /// What one asks for it by: `lease/honest`, `lease/off/wait`, `lease/walk`.
    pub name: String,
    pub question: Question,
    /// Only with `ISOBAR_LONG=1`.
    pub long: bool,
    ask: Box<dyn Fn() -> Answer + Send + Sync>,
}

pub enum Question {
    /// Every state within the bounds keeps every property, and the named states are reached.
    Clean,
    /// With this rule switched off, a state is found that breaks this property.
    Caught { rule: &'static str, property: &'static str },
    /// So many walks from one seed keep every property.
    Walks,
}

#[derive(Default)]
pub struct Answer {
    pub states: usize,
    pub depth: usize,
    pub seconds: f64,
    /// None: as it should be.
    pub failure: Option<String>,
    /// The way to what was found, one step a line.
    pub trace: Vec<String>,
}

/// What all models have in common, in short.
pub trait Concern:
    Model<State: Clone + Hash + PartialEq + Send + Sync, Action: Clone + PartialEq + Display>
    + Send
    + Sync
    + 'static
{
}

impl<M> Concern for M where
    M: Model<State: Clone + Hash + PartialEq + Send + Sync, Action: Clone + PartialEq + Display>
        + Send
        + Sync
        + 'static
{
}

impl Case {
    /// `reached`: states of the model's `sometimes` that these bounds must contain; a model that
    /// reaches nothing is clean for the wrong reason.
    pub fn clean<M: Concern + Clone>(
        name: &str,
        model: M,
        reached: &'static [&'static str],
    ) -> Self {
        let ask = Box::new(move || exhaust(model.clone(), reached, None));
        Self { name: name.to_owned(), question: Question::Clean, long: false, ask }
    }

    /// `representative`: one state for all those that differ only in who is called what.
    pub fn clean_up_to<M: Concern + Clone>(
        name: &str,
        model: M,
        reached: &'static [&'static str],
        representative: Representative<M>,
    ) -> Self {
        let ask = Box::new(move || exhaust(model.clone(), reached, Some(representative)));
        Self { name: name.to_owned(), question: Question::Clean, long: false, ask }
    }

    pub fn caught<M: Concern + Clone>(
        name: &str,
        rule: &'static str,
        property: &'static str,
        model: M,
    ) -> Self {
        let ask = Box::new(move || find(model.clone(), property));
        let question = Question::Caught { rule, property };
        Self { name: name.to_owned(), question, long: false, ask }
    }

    pub fn walks<M: Concern + Clone>(name: &str, model: M) -> Self {
        let own = name.to_owned();
        let ask = Box::new(move || walk::all(&own, &model));
        Self { name: name.to_owned(), question: Question::Walks, long: false, ask }
    }

    pub fn long(mut self) -> Self {
        self.long = true;
        self
    }

    pub fn ask(&self) -> Answer {
        (self.ask)()
    }
}

/// One state for all those that differ only in who is called what.
type Representative<M> = fn(&<M as Model>::State) -> <M as Model>::State;

/// Depth first: it keeps a fingerprint for each state, and states only along one path.
fn exhaust<M: Concern>(
    model: M,
    reached: &[&'static str],
    representative: Option<Representative<M>>,
) -> Answer {
    let begun = Instant::now();
    let always = names(&model, Expectation::Always);
    let first = HasDiscoveries::AnyOf(always.clone());
    let checker = model.checker().threads(1).finish_when(first);
    let checker = match representative {
        Some(representative) => checker.symmetry_fn(representative),
        None => checker,
    };
    let checker = checker.spawn_dfs().join();
    let found = checker.discoveries();
    let mut answer = Answer {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        seconds: begun.elapsed().as_secs_f64(),
        ..Answer::default()
    };
    if let Some((property, path)) = found.iter().find(|(name, _)| always.contains(*name)) {
        answer.failure = Some(format!("broken: {property}"));
        answer.trace = steps(path.clone().into_actions());
    } else if let Some(state) = reached.iter().find(|name| !found.contains_key(*name)) {
        answer.failure = Some(format!("these bounds never reach: {state}"));
    }
    answer
}

/// Breadth first: the way to a violation is a shortest one, and can be read.
fn find<M: Concern>(model: M, property: &'static str) -> Answer {
    let begun = Instant::now();
    let known = names(&model, Expectation::Always);
    assert!(known.contains(property), "no property of this model: {property}");
    let first = HasDiscoveries::AnyOf(BTreeSet::from([property]));
    let checker = model.checker().threads(1).finish_when(first).spawn_bfs().join();
    let mut answer = Answer {
        states: checker.unique_state_count(),
        seconds: begun.elapsed().as_secs_f64(),
        ..Answer::default()
    };
    match checker.discovery(property) {
        Some(path) => {
            answer.trace = steps(path.into_actions());
            answer.depth = answer.trace.len();
        }
        None => answer.failure = Some(format!("not caught: nothing breaks \"{property}\"")),
    }
    answer
}

fn names<M: Model>(model: &M, expectation: Expectation) -> BTreeSet<&'static str> {
    let properties = model.properties();
    properties.iter().filter(|p| p.expectation == expectation).map(|p| p.name).collect()
}

fn steps(actions: Vec<impl Display>) -> Vec<String> {
    actions.iter().map(ToString::to_string).collect()
}
