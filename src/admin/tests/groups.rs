//! Groups that are led back, as any node tells of them.

use super::*;
use crate::coordinator::group::{self, CommittedOffset};

fn led_back(group: &str) -> LedBack {
    let metadata = String::new();
    LedBack {
        group: group.into(),
        partition: group::TopicPartition::new("payments", 0),
        committed: CommittedOffset {
            offset: 9,
            leader_epoch: 131_073,
            metadata,
            commit_timestamp_ms: 1,
        },
        end: 6,
    }
}

/// Node 1 has `older`, and another one is asked, or not.
async fn told(other: u64) -> (Vec<String>, Vec<u32>) {
    let there = Paper {
        node: node(other),
        led_back: vec![led_back("older"), led_back("newer")],
        ..paper()
    };
    let here = Paper { led_back: vec![led_back("older")], other: Some(Arc::new(there)), ..paper() };
    let api::LedBack { led_back, silent } = read(here, "/v1/groups/led-back").await;
    assert!(led_back.iter().all(|one| (one.committed_offset, one.end_offset) == (9, 6)));
    (led_back.into_iter().map(|one| one.group).collect(), silent)
}

#[tokio::test]
async fn a_group_that_two_coordinators_tell_of_is_told_of_once() {
    let (groups, silent) = told(2).await;
    assert_eq!(groups, ["newer", "older"]);
    assert_eq!(silent, [3, 4, 5, 6, 7, 8], "9 has never registered");
}

#[tokio::test]
async fn a_node_that_is_known_to_be_silent_is_not_waited_for() {
    let (groups, silent) = told(4).await;
    assert_eq!(groups, ["older"], "4 would answer, were it asked");
    assert_eq!(silent, [2, 3, 4, 5, 6, 7, 8]);
}
