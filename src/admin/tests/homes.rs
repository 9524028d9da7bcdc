//! Moves of homes, planned and looked at.

use super::*;
use crate::log::{self, Fork, Position};
use crate::metadata::budgets::Bound;
use crate::metadata::moves::{Aim, BroughtBack, Kind, Moved, Moving, Suffix, Verdict};
use crate::model::Term;

async fn plan(body: &str) -> (StatusCode, String) {
    call(paper(), LOCAL, post("/v1/moves", body)).await
}

#[tokio::test]
async fn a_plan_counts_only_who_answers_and_says_why_it_cannot_be() {
    let (status, body) =
        plan(r#"{"kind":"failover","dc":"fra","to":"iad","plan_only":true}"#).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let plan: api::MovePlan = serde_json::from_str(&body).unwrap();
    assert_eq!((plan.answered, plan.begun), (vec![1], 0));
    assert_eq!(plan.silent, [2, 3, 4, 5, 6, 7, 8, 9]);
    let [topic] = &plan.topics[..] else { panic!("{:?}", plan.topics) };
    assert_eq!((&*topic.topic, &*topic.to), ("payments", "iad"));
    assert!(topic.refused.as_ref().unwrap().contains("replicas in iad must answer"), "{topic:?}");
    assert_eq!(topic.verdict, api::Verdict::Undecided);
}

/// What a failover of a partition to iad would claim: iad answers, which is all that there is beside the home.
async fn claimed(
    feature_level: u32,
    lacks: &'static str,
    change: impl FnOnce(&mut Partition),
) -> api::Verdict {
    let mut image = image();
    for node in image.nodes.values_mut() {
        Arc::make_mut(node).feature_level = feature_level;
    }
    let topic = Arc::make_mut(image.topics.get_mut(&TOPIC).unwrap());
    let placed = Arc::make_mut(&mut topic.partitions[0]);
    placed.budget = Some(Bound { span: None, bytes: None, records: Some(10) });
    change(placed);
    let there = Paper { node: node(4), leader: node(4), ..paper() };
    let other = Some(Arc::new(there));
    let asked = Paper {
        image: Some(Arc::new(image)),
        alive: vec![1, 4],
        lacks,
        leader: node(4),
        other,
        ..paper()
    };
    let body = r#"{"kind":"failover","dc":"fra","plan_only":true}"#;
    let (_, body) = call(asked, LOCAL, post("/v1/moves", body)).await;
    let plan: api::MovePlan = serde_json::from_str(&body).unwrap();
    assert_eq!((&*plan.answered, &*plan.topics[0].to), (&[1, 4][..], "iad"), "{body}");
    plan.topics[0].verdict
}

#[tokio::test]
async fn a_plan_claims_a_number_where_the_move_will() {
    let at_most = |first_offset| api::Verdict::AtMost {
        since_ms: 0,
        records: Some(10),
        bytes: None,
        span_ms: None,
        first_offset,
    };
    let since = api::Verdict::UnboundedSince { since_ms: 0 };
    let level = Verdict::AT_MOST_FEATURE_LEVEL;
    assert_eq!(claimed(level, "", |_| {}).await, at_most(Some(6)));
    assert_eq!(claimed(level - 1, "", |_| {}).await, since, "a node could not read it");
    assert_eq!(claimed(level, "", |placed| placed.budget = None).await, since);
    let in_sin = |placed: &mut Partition| {
        let replica = Replica { id: ReplicaId(5), node: node(7), ..placed.replicas[3] };
        placed.replicas.push(replica);
    };
    assert_eq!(claimed(level, "", in_sin).await, since, "sin has not said");
    let begun_beyond = |placed: &mut Partition| {
        let at = Position { index: LogIndex(1 << 40), ..Position::default() };
        let fork = Fork { home_epoch: HomeEpoch::new(2).unwrap(), at, epochs: vec![] };
        (placed.home_epoch, placed.fork) = (fork.home_epoch, Some(fork.into()));
    };
    assert_eq!(claimed(level, "", begun_beyond).await, since, "nobody has what it began with");
    let lacks = r#""log_end":6,"#;
    assert_eq!(claimed(level, lacks, |_| {}).await, at_most(None), "an older release");
}

/// What the move itself would find when everything is sealed: it never ends there.
#[tokio::test]
async fn a_plan_refuses_a_target_whose_logs_end_before_the_one_with_the_most_begins() {
    for (last, refused) in [(6, true), (7, false)] {
        let mut image = image();
        let topic = Arc::make_mut(image.topics.get_mut(&TOPIC).unwrap());
        Arc::make_mut(&mut topic.partitions[0])
            .replicas
            .retain(|r| [1, 4].contains(&r.node.as_u32()));
        let stands = Status { begins_after: LogIndex(7), last: LogIndex(20), ..status() };
        let ends = Status { last: LogIndex(last), ..status() };
        let there = Paper { node: node(4), leader: node(4), stands: ends, ..paper() };
        let (image, other) = (Some(Arc::new(image)), Some(Arc::new(there)));
        let asked = Paper { image, alive: vec![1, 4], stands, other, ..paper() };
        let body = r#"{"kind":"failover","dc":"fra","to":"iad","plan_only":true}"#;
        let (_, body) = call(asked, LOCAL, post("/v1/moves", body)).await;
        let plan: api::MovePlan = serde_json::from_str(&body).unwrap();
        let why = plan.topics[0].refused.as_deref().unwrap_or_default();
        assert_eq!(
            why.contains("in iad the logs of nodes 4 end before the log of node 1"),
            refused,
            "{body}"
        );
    }
}

#[tokio::test]
async fn nonsense_and_strangers_are_refused() {
    for (body, part) in [
        (r#"{"kind":"failover","dc":"nrt"}"#, "expected a datacenter with data: fra, iad, sin"),
        (r#"{"kind":"switchover","dc":"fra","to":"fra"}"#, "name another DC"),
        (r#"{"kind":"failover","dc":"fra","topics":"a/b"}"#, "topic pattern"),
        (r#"{"kind":"failover","dc":"fra","force":true}"#, "unknown field"),
    ] {
        let (status, answer) = plan(body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
        assert!(answer.contains(part), "{answer}");
    }
    let stranger = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    let body = r#"{"kind":"failover","dc":"fra","plan_only":true}"#;
    let (status, _) = call(paper(), stranger, post("/v1/moves", body)).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn moves_under_way_and_moves_that_have_ended_are_told_with_their_account() {
    let mut image = image();
    let topic = Arc::make_mut(image.topics.get_mut(&TOPIC).unwrap());
    let aim = Aim {
        kind: Kind::Switchover,
        to: dc("iad"),
        accept_loss: false,
        automatic: false,
        began_ms: 3,
    };
    let moving = Moving { aim, epoch: HomeEpoch::new(2).unwrap(), chosen: None };
    Arc::make_mut(&mut topic.partitions[0]).phase = Phase::Sealing(moving);
    let cut = log::Position { index: LogIndex(9), term: Term(4), offset: Offset(6) };
    let suffix = |replica, records| Suffix {
        replica: ReplicaId(replica),
        node: node(replica),
        records,
        bytes: 10,
        last: log::Position { index: LogIndex(9 + records), ..cut },
    };
    image.moved.push(Arc::new(Moved {
        at: AT,
        topic: "payments".into(),
        kind: Kind::Failover,
        from: dc("sin"),
        to: dc("fra"),
        home_epoch: HomeEpoch::FIRST,
        cut,
        verdict: Verdict::UnboundedSince { ms: 5 },
        accept_loss: true,
        automatic: false,
        began_ms: 6,
        ended_ms: 8,
        old_voters: vec![ReplicaId(1), ReplicaId(2), ReplicaId(3)],
        suffixes: vec![suffix(1, 4), suffix(2, 0)],
    }));
    let paper = Paper { image: Some(Arc::new(image)), ..paper() };
    let moves: api::Moves = read(paper, "/v1/moves").await;
    let [under_way] = &moves.under_way[..] else { panic!("{moves:?}") };
    assert_eq!((&*under_way.from, &*under_way.to, under_way.partition), ("fra", "iad", 0));
    let [ended] = &moves.ended[..] else { panic!("{moves:?}") };
    assert_eq!((ended.cut_offset, ended.beyond_records, &ended.ledgers), (6, Some(4), &vec![1]));
    assert_eq!((&ended.longest[..], ended.brought_back), (&[1][..], None));
    assert_eq!(ended.verdict, api::Verdict::UnboundedSince { since_ms: 5 });
}

#[test]
fn what_a_later_home_began_with_again_is_told() {
    let moved = |epoch, of_home, offset: u32| Moved {
        at: AT,
        topic: "payments".into(),
        kind: Kind::Failover,
        from: dc("sin"),
        to: dc("fra"),
        home_epoch: HomeEpoch::new(epoch).unwrap(),
        cut: log::Position {
            index: LogIndex(u64::from(offset) + 5),
            term: HomeEpoch::new(of_home).unwrap().first_term(),
            offset: Offset(i64::from(offset)),
        },
        verdict: Verdict::UnboundedSince { ms: 5 },
        accept_loss: true,
        automatic: false,
        began_ms: 6,
        ended_ms: 8,
        old_voters: vec![ReplicaId(1)],
        suffixes: Vec::new(),
    };
    let lossy = moved(2, 1, 6);
    let by = |later: &[Moved]| lossy.brought_back(later.iter());
    assert_eq!(by(&[lossy.clone(), moved(3, 2, 9)]), None, "it began with its own");
    assert_eq!(by(&[moved(3, 1, 6)]), None, "it was cut there too");
    assert_eq!(by(&[moved(1, 0, 9)]), None, "it was before");
    let home_epoch = HomeEpoch::new(4).unwrap();
    let back = BroughtBack { home_epoch, from: Offset(6), to: Offset(9) };
    assert_eq!(by(&[moved(5, 1, 8), moved(3, 1, 4), moved(4, 1, 9)]), Some(back));
}
