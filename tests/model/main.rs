//! The protocol of moving a home, as models whose states are all tried: before the code, and beside
//! it for as long as there is code. One concern a model, so that each can be read, and each is
//! small enough to be exhausted at every commit.
//!
//! ```text
//! cargo test --release --test model                                all models, all rules, some walks
//! ISOBAR_MODEL=lease cargo test --release --test model             what has `lease` in its name
//! ISOBAR_MODEL_SHOW=1 ISOBAR_MODEL=lease/off cargo test …          and how each loss comes about
//! ISOBAR_LONG=1 cargo test --release --test model                  also the large bounds
//! ```
//!
//! Every model has switches, one a rule of the protocol (R1 to R27, and those that the models
//! asked for). With all on, no state within the bounds breaks a property. With one off, a state must
//! be found that does: a rule whose absence nothing notices is not checked, and fails the run.
//!
//! What is modelled, what is not, and what came of it: `docs/invariants.md`.

mod check;
mod exposure;
mod failover;
mod fsync;
mod install;
mod lease;
mod log;
mod mode;
mod moves;
mod placement;
mod report;
mod voting;
mod walk;
mod watermark;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use check::Case;
use report::Report;

fn main() -> ExitCode {
    // Asked for names by a test runner: there are none.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    // As other tests take it: words are parts of names.
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let asked = std::env::var("ISOBAR_MODEL").ok();
    let wanted = |case: &Case| {
        let named = asked.iter().chain(&words).all(|word| case.name.contains(word.as_str()));
        named && (is_long() || !case.long || asked.is_some())
    };
    let cases: Vec<Case> = all().into_iter().filter(wanted).collect();
    if cases.is_empty() && asked.is_some() {
        println!("no case of this name; there are:");
        all().iter().for_each(|case| println!("  {}", case.name));
        println!("test result: FAILED. 0 passed; 1 failed; 0 ignored; models");
        return ExitCode::FAILURE;
    }
    let report = Mutex::new(Report::new(cases.len(), is_set("ISOBAR_MODEL_SHOW")));
    let next = AtomicUsize::new(0);
    // One thread a case: its states are then met in one order, and its steps are the same each time.
    // The large bounds go one by one, for the sake of memory.
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..if is_long() { 1 } else { workers } {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = case.ask();
                    let mut report = report.lock().expect("no panic while held");
                    report.add(&cases, case, answer);
                }
            });
        }
    });
    report.into_inner().expect("no panic while held").close()
}

fn all() -> Vec<Case> {
    [
        failover::cases(),
        exposure::cases(),
        fsync::cases(),
        install::cases(),
        lease::cases(),
        mode::cases(),
        placement::cases(),
        moves::cases(),
        voting::cases(),
        watermark::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Whether the large bounds are wanted.
fn is_long() -> bool {
    is_set("ISOBAR_LONG")
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value != "0")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
