use super::*;
use crate::dev;

fn dev_text() -> String {
    dev::text(&dev::Spec {
        kafka_ports: dev::consecutive(9092).unwrap(),
        admin_ports: dev::consecutive(9640).unwrap(),
        peer_ports: dev::consecutive(7400).unwrap(),
        data_dir: "/data",
    })
}

fn parse(text: &str) -> Topology {
    Topology::parse(text).unwrap_or_else(|problems| panic!("{problems}")).0
}

fn edited(from: &str, to: &str) -> Topology {
    let text = dev_text();
    assert!(text.contains(from), "{from}");
    parse(&text.replacen(from, to, 1))
}

fn changes(new: &Topology) -> Vec<Change> {
    let old = parse(&dev_text()).with_generation(3);
    render(Some(&old), new).changes
}

const PAYMENTS: &str = "\n[policy.payments]\ntopics = [\"payments.*\"]\nreplication = \"sync\"\n";

fn with_payments(sync_to: u32) -> Topology {
    let internal = dev_text().replace("replication = \"async\"\nflush", "flush");
    parse(&format!("{internal}{PAYMENTS}sync_to = {sync_to}\n"))
}

fn of<'a>(plan: &'a Plan, name: &str) -> &'a PolicyPlan {
    plan.policies.iter().find(|policy| policy.name == name).unwrap()
}

#[test]
fn an_async_ack_waits_for_home_and_a_sync_one_for_the_nearest_others() {
    let ack = |sync_to: u32, policy: &str| {
        of(&render(None, &with_payments(sync_to)), policy).acks[0].clone()
    };
    assert_eq!(ack(1, "default").added_ms, 0);
    assert_eq!((ack(1, "payments").added_ms, ack(1, "payments").waits_for.len()), (90, 1));
    assert_eq!((ack(2, "payments").added_ms, ack(2, "payments").waits_for.len()), (160, 2));
    assert_eq!(ack(2, "internal").added_ms, 160, "as strong as the strongest");
}

#[test]
fn measured_round_trips_come_before_declared_ones_and_a_far_one_is_a_warning() {
    let measured = Measured::from([(
        ("iad".parse().unwrap(), "fra".parse().unwrap()),
        Duration::from_millis(200),
    )]);
    let plan = render_measured(None, &with_payments(1), &measured);
    assert_eq!(of(&plan, "payments").acks[0].added_ms, 160, "sin is nearer now");
    assert_eq!(plan.warnings.len(), 1);
    assert!(plan.warnings[0].contains("measured 200 ms, declared 90 ms"), "{:?}", plan.warnings);
}

#[test]
fn a_sync_policy_goes_on_without_one_of_two_dcs_and_stops_where_both_are_needed() {
    let writes = |sync_to: u32, dc: &str| {
        let plan = render(None, &with_payments(sync_to));
        let failures = &of(&plan, "payments").failures;
        failures.iter().find(|failure| failure.of.starts_with(dc)).unwrap().writes.clone()
    };
    assert_eq!(writes(1, "iad"), "go on, 160 ms per acknowledgement");
    assert_eq!(writes(1, "sin"), "go on, 90 ms per acknowledgement");
    assert!(writes(2, "iad").starts_with("stop with a retriable error"));
}

#[test]
fn a_budget_is_told_as_what_a_loss_costs_and_a_tight_one_is_a_warning() {
    let plan = |budget: &str| {
        let replication = format!("replication = \"async\"\n{budget}");
        render(None, &edited("replication = \"async\"", &replication))
    };
    let lost = |plan: &Plan| {
        let failures = &of(plan, "default").failures;
        failures.iter().find(|failure| failure.of == "fra (home)").unwrap().lost.clone()
    };
    let bound = plan("max_lag = \"5s\"\nmax_lag_bytes = \"64MiB\"\non_lag = \"reject\"");
    assert!(lost(&bound).ends_with("at most 5s of writes or 64MiB a partition"));
    assert_eq!(bound.warnings, [""; 0]);
    assert!(lost(&plan("max_lag = \"5s\"")).ends_with("reported beyond 5s of writes"));
    let tight = plan("max_lag = \"179ms\"\non_lag = \"throttle\"").warnings;
    assert!(
        tight[0].starts_with("policy default: max_lag 179ms is less than 2 round trips from fra")
    );
    assert_eq!(tight.len(), 1, "internal inherits none");
}

#[test]
fn the_same_text_changes_nothing() {
    let old = parse(&dev_text()).with_generation(3);
    let plan = render(Some(&old), &parse(&dev_text()));
    assert!(plan.changes_nothing() && plan.refused().next().is_none());
    assert!(plan.to_string().ends_with("changes: none\n"), "{plan}");
}

#[test]
fn a_changed_home_is_no_home_move() {
    let changes = changes(&edited("home = \"fra\"", "home = \"iad\""));
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!(changes[0].what, "policy default home");
    assert!(changes[0].note.contains("a changed file never moves a home"));
}

#[test]
fn a_node_that_is_left_out_takes_its_vote_along_and_that_is_refused() {
    let text = dev_text();
    let start = text.find("\n[[node]]\nid = 9").unwrap();
    let end = text.find("\n[[link]]").unwrap();
    let without = format!("{}{}", &text[..start], &text[end..]).replace("sin = 3", "sin = 1");
    let changes = changes(&parse(&without));
    let node = changes.iter().find(|change| change.what == "node 9 in sin").unwrap();
    assert!(node.kind == Kind::Removed && node.note.starts_with("refused while replicas"));
    let replicas = changes.iter().find(|change| change.what == "policy default replicas").unwrap();
    assert_eq!(replicas.detail, "fra=3,iad=3,sin=3 → fra=3,iad=3,sin=1");
    assert!(replicas.refused.is_none());
    let voters = changes.iter().find(|change| change.what == "__meta voters").unwrap();
    assert_eq!(voters.detail, "1, 2, 3, 4, 5, 6, 7, 8, 9 → 1, 2, 3, 4, 5, 7, 8");
    assert!(voters.refused.is_some());
}

#[test]
fn a_link_s_round_trip_and_a_new_policy_are_shown_and_allowed() {
    let link = changes(&edited("rtt = \"90ms\"", "rtt = \"100ms\""));
    assert_eq!((&*link[0].what, &*link[0].detail), ("link fra–iad rtt", "90ms → 100ms"));
    let policy = changes(&parse(&format!("{}{}", dev_text(), PAYMENTS.replace("sync", "async"))));
    assert_eq!((policy.len(), &*policy[0].what), (1, "policy payments"));
    assert!(policy[0].refused.is_none());
}

#[test]
fn an_inherited_change_is_shown_where_it_was_made() {
    let text = dev_text() + &PAYMENTS.replace("sync", "async");
    let old = parse(&text).with_generation(3);
    let new = parse(&text.replacen("async", "async\"\non_isolation = \"continue", 1));
    let changes = render(Some(&old), &new).changes;
    let what: Vec<&str> = changes.iter().map(|change| &*change.what).collect();
    assert!(what.contains(&"policy default on_isolation"), "{what:?}");
}

#[test]
fn the_plan_of_dev_reads_well() {
    let shown = render(None, &parse(&dev_text())).to_string();
    for line in [
        "cluster dev",
        "  9 voter(s): nodes of fra 1, 2, 3; iad 4, 5, 6; sin 7, 8, 9",
        "  survives the loss of any one DC",
        "  acks=all at home fra: nothing added, fra alone answers",
        "  a first partition: voters 1, 2, 3; learners 4, 5, 6, 7, 8, 9",
        "  link fra→iad: each byte 3 time(s): 259 GB a day for each MB/s produced; it carries 41.7 MB/s of produce",
        "changes: no topology is in force yet",
    ] {
        assert!(shown.lines().any(|shown| shown == line), "{line}\n---\n{shown}");
    }
}
