//! Moves of homes, planned and looked at.

use super::*;
use crate::log;
use crate::metadata::moves::{Aim, Kind, Moved, Moving, Suffix, Verdict};
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
    assert_eq!(ended.longest, [1]);
    assert_eq!(ended.verdict, api::Verdict::UnboundedSince { since_ms: 5 });
}
