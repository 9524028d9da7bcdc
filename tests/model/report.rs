//! One line a case, in the order of the list although several run at once; then the verdict in
//! cargo's form, which is what counts tests.

use std::collections::BTreeMap;
use std::process::ExitCode;

use crate::check::{Answer, Case, Question};

pub struct Report {
    /// Of cases that ended before one that is listed above them.
    waiting: BTreeMap<usize, Vec<String>>,
    printed: usize,
    cases: usize,
    failed: usize,
    states: usize,
    show: bool,
}

impl Report {
    /// `show`: also how each loss comes about.
    pub fn new(cases: usize, show: bool) -> Self {
        let waiting = BTreeMap::new();
        Self { waiting, printed: 0, cases, failed: 0, states: 0, show }
    }

    pub fn add(&mut self, cases: &[Case], case: &Case, answer: Answer) {
        let place = cases.iter().position(|c| c.name == case.name).expect("of this list");
        self.failed += usize::from(answer.failure.is_some());
        self.states += answer.states;
        let mut lines = vec![line(case, &answer)];
        if let Some(failure) = &answer.failure {
            lines.push(format!("  FAILED {failure}"));
        }
        if self.show || answer.failure.is_some() {
            let steps = answer.trace.iter().enumerate();
            lines.extend(steps.map(|(at, step)| format!("  {:>3}  {step}", at + 1)));
        }
        self.waiting.insert(place, lines);
        while let Some(lines) = self.waiting.remove(&self.printed) {
            lines.iter().for_each(|line| println!("{line}"));
            self.printed += 1;
        }
    }

    pub fn close(self) -> ExitCode {
        let verdict = if self.failed == 0 { "ok" } else { "FAILED" };
        let passed = self.cases - self.failed;
        println!("{} states", self.states);
        println!(
            "test result: {verdict}. {passed} passed; {} failed; 0 ignored; models",
            self.failed
        );
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn line(case: &Case, answer: &Answer) -> String {
    let Answer { states, depth, seconds, .. } = answer;
    let name = &case.name;
    match &case.question {
        Question::Clean => {
            format!("model {name}: {states} states, depth {depth}, {seconds:.1} s")
        }
        Question::Caught { rule, property } => {
            let found = if answer.failure.is_some() { "NOT caught" } else { "caught" };
            format!(
                "off   {name}: {rule}: {found} by \"{property}\" in {depth} steps, {seconds:.1} s"
            )
        }
        Question::Walks => {
            format!("walks {name}: {states} steps, the longest {depth}, {seconds:.1} s")
        }
    }
}
