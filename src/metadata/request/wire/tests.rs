//! Messages there and back.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::log::{EpochStart, Fork, Position};
use crate::metadata::fixture::{n, node, topic};
use crate::metadata::image::Replica;
use crate::metadata::modes::Change;
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::*;
use crate::model::{HomeEpoch, LogIndex, Mode, Offset, ReplicaId, Term, TopicId, TopicPartition};

fn requests() -> Vec<Request> {
    let set = |key: &str| ConfigOp::Set { key: key.into(), value: "v".into() };
    let ops = vec![
        set("a"),
        ConfigOp::Delete { key: "b".into() },
        ConfigOp::Append { key: "c".into(), value: "x".into() },
        ConfigOp::Subtract { key: "d".into(), value: "y".into() },
    ];
    let assigned = NewTopic {
        assignments: BTreeMap::from([(0, vec![1, 2]), (1, vec![])]),
        replication_factor: Some(-3),
        partitions: None,
        ..topic("b", 0, &[("k", "v")])
    };
    vec![
        Request::RegisterNode(node(3)),
        Request::AdmitDisk { node: n(3), disk: [8; 16], accept_loss: true },
        Request::CreateTopics { topics: vec![topic("a", 3, &[]), assigned], validate_only: true },
        Request::EnsureTopics { names: vec!["a".into(), String::new()] },
        Request::DeleteTopics {
            topics: vec![TopicRef::Name("a".into()), TopicRef::Id(TopicId([7; 16]))],
        },
        Request::CreatePartitions {
            topics: vec![
                NewPartitions { topic: "a".into(), count: -1, assignments: None },
                NewPartitions { topic: "b".into(), count: 2, assignments: Some(vec![]) },
                NewPartitions {
                    topic: "c".into(),
                    count: 2,
                    assignments: Some(vec![vec![1], vec![]]),
                },
            ],
            validate_only: false,
        },
        Request::AlterConfigs {
            topics: vec![
                AlterConfigs { topic: "a".into(), change: ConfigChange::Incremental(ops) },
                AlterConfigs {
                    topic: "b".into(),
                    change: ConfigChange::Replace(BTreeMap::from([("k".into(), "v".into())])),
                },
            ],
            validate_only: true,
        },
        Request::AllocateProducerIds,
        Request::ApplyTopology {
            text: "version = 1".into(),
            expected_generation: Some(0),
            validate_only: true,
        },
        Request::PromoteReplica {
            partition: TopicPartition { topic: TopicId([1; 16]), partition: 4 },
            replica: ReplicaId(9),
            home_epoch: HomeEpoch::FIRST,
            placement_generation: 3,
        },
        Request::MoveHomes { moves: vec![] },
        Request::ChooseCuts { choices: vec![] },
        Request::ActivateHomes { activations: vec![] },
        Request::ChangeModes {
            changes: vec![Change {
                at: TopicPartition { topic: TopicId([1; 16]), partition: 4 },
                home_epoch: HomeEpoch::FIRST,
                expected: 3,
                mode: Mode { sid: 4, degraded: true },
                node: n(2),
                at_ms: 77,
            }],
        },
    ]
}

fn replies() -> Vec<Reply> {
    let refusal = Refusal::new(Reason::InvalidConfig, "no");
    let created = CreatedTopic {
        name: "a".into(),
        id: TopicId([1; 16]),
        partitions: 2,
        replication_factor: 9,
        existed: true,
    };
    let deleted = DeletedTopic { name: "a".into(), id: TopicId([1; 16]) };
    let at = Position { index: LogIndex(9), term: Term(1 << 17), offset: Offset(7) };
    let epochs = vec![EpochStart { term: at.term, index: LogIndex(1), offset: Offset(0) }];
    let fork = Fork { home_epoch: HomeEpoch::new(2).unwrap(), at, epochs };
    let responses = [
        Response::Registered,
        Response::Admitted(Admitted {
            replica: ReplicaId::of_meta(2, n(3)),
            placement_generation: 7,
            replicas: vec![Replica { id: ReplicaId(4), node: n(4), voter: true, disk: None }],
            home_epoch: HomeEpoch::new(2).unwrap(),
            fork: Some(fork.into()),
        }),
        Response::TopicsCreated(vec![Ok(created), Err(refusal.clone())]),
        Response::TopicsDeleted(vec![Err(refusal.clone()), Ok(deleted)]),
        Response::PartitionsCreated(vec![Ok(()), Err(refusal.clone())]),
        Response::ConfigsAltered(vec![]),
        Response::ProducerIds(ProducerIds { first: 5, count: 1000 }),
        Response::Topology(TopologyApplied { generation: 4, notes: vec!["n".into()] }),
        Response::Promoted,
        Response::MovesBegun(vec![Ok(()), Err(refusal.clone())]),
        Response::CutsChosen(vec![Ok(())]),
        Response::HomesActivated(vec![Ok(())]),
        Response::Reported,
        Response::ModesChanged(vec![Ok(()), Err(refusal.clone())]),
    ];
    let done = responses.map(|response| Reply::Done { response, visible_at: Offset(12) });
    let rest = [
        Reply::Refused(refusal),
        Reply::NotLeader { hint: None },
        Reply::NotLeader { hint: Some(n(4)) },
        Reply::Busy,
        Reply::Unknown,
    ];
    done.into_iter().chain(rest).collect()
}

#[test]
fn requests_and_replies_arrive_as_they_left() {
    for request in requests() {
        assert_eq!(Request::decode(&request.encode()), Ok(request));
    }
    for reply in replies() {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
    }
}

#[test]
fn another_version_is_refused_by_its_number() {
    let mut bytes = Request::AllocateProducerIds.encode();
    bytes[1] = 9;
    assert_eq!(Request::decode(&bytes), Err(WireError::Version(9)));
    assert_eq!(Reply::decode(&bytes), Err(WireError::Version(9)));
}

proptest! {
    #[test]
    fn no_bytes_make_decoding_panic(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = which.get(&requests()).encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        bytes.truncate(cut.index(bytes.len() + 1));
        let _ = Request::decode(&bytes);
        let _ = Reply::decode(&bytes);
    }
}
