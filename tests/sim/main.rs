//! The deterministic simulator: a whole cluster's replicas in one thread, on a clock, a network and
//! disks of its own. What runs is the product: cores, host, wire, the driver's steps, group commit,
//! the log. One seed, one history, byte for byte.
//!
//! ```text
//! cargo test --release --test sim                          the same seeds every time
//! ISOBAR_SIM_SECONDS=600 cargo test --release --test sim   then fresh ones, for ten minutes
//! ISOBAR_SIM_SEED=7 cargo test --release --test sim        one seed
//! ```
//!
//! A run has a phase of faults and one of healing, after which everything must converge.
//!
//! Deliberately missing: `__meta`, coordinators, placement changes, home moves, full disks, bit rot
//! and `flush = "os"`; they come with the next issue.

mod client;
mod clients;
mod end;
mod faults;
mod invariants;
mod network;
mod node;
mod oracle;
mod ranges;
mod scenario;
mod trace;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use world::{Report, World};

/// Seeds after the fixed ones when no time is given: the same in every run, so that a red run is the
/// change's own doing. Fresh ones are drawn where time is given (`.ci/long`). Twenty take 10 s.
const REPEATED: std::ops::Range<u64> = 100..120;

/// Always run. The first ones are any; then come those that once failed, with what they found.
const FIXED: [u64; 14] = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    // An empty log-start snapshot from a restarted leader.
    1882635220549645,
    1882635266687006,
    // A log that began where the disk had no producer state, and could not be opened again.
    1882635507859475,
    1882635525685273,
    1882635559239769,
    // A log emptied by a snapshot, reopened with the offset that clients may read from as its end.
    1882636897222688,
];

/// One in so many seeds runs twice, and must do the same.
const TWICE_EVERY: usize = 20;

/// What all workers came to.
#[derive(Default)]
struct Totals {
    seeds: u64,
    twice: u64,
    report: Report,
    busy: Duration,
    failures: Vec<(u64, String)>,
}

fn main() -> ExitCode {
    // Asked for names by a test runner: there are none.
    if std::env::args().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name}={text} is no number")))
    };
    let one = number("ISOBAR_SIM_SEED");
    let budget = number("ISOBAR_SIM_SECONDS").map(Duration::from_secs);
    let fresh = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() << 20;
    let seed = |n: usize| match (one, FIXED.get(n), budget) {
        (Some(seed), ..) => (n == 0).then_some(seed),
        (None, Some(fixed), _) => Some(*fixed),
        (None, None, Some(_)) => Some(fresh + n as u64),
        (None, None, None) => REPEATED.clone().nth(n - FIXED.len()),
    };
    let totals = Mutex::new(Totals::default());
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let is_fixed = one.is_some() || n < FIXED.len();
                    let Some(seed) = seed(n) else { return };
                    let failed = !totals.lock().expect("no panic while held").failures.is_empty();
                    let late = budget.is_some_and(|budget| begun.elapsed() > budget);
                    if failed || !is_fixed && late {
                        return;
                    }
                    try_seed(seed, one.is_some() || n.is_multiple_of(TWICE_EVERY), &totals);
                }
            });
        }
    });
    tell(totals.into_inner().expect("no panic while held"))
}

fn try_seed(seed: u64, twice: bool, totals: &Mutex<Totals>) {
    let begun = Instant::now();
    let result = run(seed).and_then(|first| {
        if twice && run(seed)? != first {
            return Err("two runs of this seed differ".to_owned());
        }
        Ok(first)
    });
    let mut totals = totals.lock().expect("no panic while held");
    totals.busy += begun.elapsed();
    totals.seeds += 1;
    totals.twice += u64::from(twice);
    match result {
        Ok(report) => {
            let times = if twice { 2 } else { 1 };
            totals.report.simulated += report.simulated * times;
            totals.report.events += report.events * times;
            totals.report.acked += report.acked;
            totals.report.terms += report.terms;
            for (fault, count) in report.faults {
                *totals.report.faults.entry(fault).or_default() += count;
            }
        }
        Err(why) => totals.failures.push((seed, why)),
    }
}

/// An assertion of the product that fails is a find like any other.
fn run(seed: u64) -> Result<Report, String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed);
        world.run().map_err(|violation| (world.now, violation))
    }));
    match outcome {
        Ok(Ok(report)) => Ok(report),
        Ok(Err((now, violation))) => Err(format!("at {:.6} s: {violation}", now as f64 / 1e6)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("an assertion failed: {}", text.unwrap_or("without words")))
        }
    }
}

fn tell(totals: Totals) -> ExitCode {
    let Totals { seeds, twice, report, busy, failures } = totals;
    let simulated = report.simulated as f64 / 1e6;
    let rate = simulated / busy.as_secs_f64().max(1e-9);
    println!(
        "{seeds} seeds ({twice} twice), {simulated:.0} simulated seconds, {rate:.1} simulated hours per CPU hour"
    );
    println!(
        "{} events, {} batches acknowledged, {} terms led",
        report.events, report.acked, report.terms
    );
    let faults: BTreeMap<_, _> = report.faults;
    println!("faults: {faults:?}");
    for (seed, why) in &failures {
        println!("seed {seed} failed {why}");
        println!("reproduce: ISOBAR_SIM_SEED={seed} cargo test --release --test sim");
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    let (passed, failed) = (seeds - failures.len() as u64, failures.len());
    println!("test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; seeds");
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
