//! A budget and what is at stake are told alike by metrics, JSON and the command line.

use isobar_topology::policy::OnLag;

use super::*;
use crate::admin::{ask, exposition::Exposition, metrics::FAMILIES};
use crate::replica::core::AtStake;

fn bound() -> Status {
    let lag = Some(Duration::from_secs(1));
    let at_stake =
        AtStake { is_known: true, span: Duration::from_millis(1500), records: 3, bytes: 70 };
    Status {
        budget: Budget { lag, bytes: Some(1 << 20), records: None, on_lag: OnLag::Continue },
        at_stake: Some(at_stake),
        ..status()
    }
}

fn scraped(status: &Status) -> String {
    let mut out = Exposition::new(FAMILIES);
    metrics::at_stake(&mut out, status, [("topic", "payments"), ("partition", "0")]);
    let mut text = String::new();
    out.write(&mut text);
    text
}

#[test]
fn a_scrape_tells_what_is_at_stake_beside_what_may_be() {
    let text = scraped(&bound());
    for (name, value) in [
        ("at_stake_seconds", "1.5"),
        ("at_stake_records", "3"),
        ("at_stake_bytes", "70"),
        ("budget_seconds", "1"),
        ("budget_bytes", "1048576"),
        ("budget_breached", "1"),
    ] {
        let line = format!("isobar_{name}{{topic=\"payments\",partition=\"0\"}} {value}\n");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    let unbound = scraped(&Status { budget: Budget::NONE, ..bound() });
    assert!(unbound.contains("at_stake_bytes{") && !unbound.contains("budget_breached{"));
}

#[test]
fn what_a_new_leader_cannot_know_is_infinite_in_a_scrape_and_at_least_so_much_elsewhere() {
    let mut status = bound();
    status.at_stake.as_mut().unwrap().is_known = false;
    assert!(
        scraped(&status)
            .contains("isobar_at_stake_seconds{topic=\"payments\",partition=\"0\"} +Inf")
    );
    let (_, at_stake) = ask::stakes_of(&status);
    let at_stake = at_stake.unwrap();
    assert!(!at_stake.known && at_stake.breached);
    assert_eq!(at_stake.seconds, 1.5);
}

#[test]
fn the_budget_is_the_leaders_to_tell() {
    let (budget, at_stake) = ask::stakes_of(&bound());
    let budget = budget.unwrap();
    assert_eq!((budget.seconds, budget.bytes), (Some(1.0), Some(1 << 20)));
    assert_eq!(budget.on_lag, "continue");
    assert!(at_stake.unwrap().breached);
    let mut follower = Status { at_stake: None, ..bound() };
    follower.progress.role = Role::Follower;
    assert_eq!(ask::stakes_of(&follower), (None, None));
}
