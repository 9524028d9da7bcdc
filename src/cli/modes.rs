//! Sync topics that are degraded, for people.

use std::fmt::Write as _;

use super::dc::utc;
use super::output::{self, Table};
use crate::admin::api;

/// What an operator must know at once; empty if all is well.
pub fn degraded(partitions: &[api::Degraded]) -> String {
    if partitions.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["DEGRADED", "PARTITION", "HOME", "WAITED FOR", "SINCE"]);
    for one in partitions {
        table.row([
            one.topic.clone(),
            one.partition.to_string(),
            one.home.clone(),
            output::count(one.sync_to as usize, "datacenter"),
            one.since_ms.map_or_else(|| "-".to_owned(), utc),
        ]);
    }
    let mut out = String::from("\n");
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "{}\nacknowledgements there wait for the home alone and may be lost with it: bring the other datacenters \
         back, and they are sync again by themselves\n",
        table.render()
    );
    out
}

/// How sync topics degraded and recovered; empty if none ever did.
pub fn changes(changes: &[api::ModeChange]) -> String {
    if changes.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["RECORDED", "TOPIC", "PARTITION", "EPOCH", "LEADER", "MODE"]);
    for one in changes {
        table.row([
            utc(one.at_ms),
            one.topic.clone(),
            one.partition.to_string(),
            one.home_epoch.to_string(),
            format!("node {}", one.node),
            if one.degraded { "degraded" } else { "sync again" }.to_owned(),
        ]);
    }
    format!("\n{}", table.render())
}
