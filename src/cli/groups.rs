//! Consumer groups that have read on in a lost home, for people.

use super::output::{self, Table};
use crate::admin::api;

/// Empty if there are none.
pub fn led_back(told: &api::LedBack) -> String {
    let mut out = String::new();
    if !told.led_back.is_empty() {
        let mut table = Table::new(["LED BACK", "TOPIC", "PARTITION", "COMMITTED", "GOES ON AT"]);
        for one in &told.led_back {
            table.row([
                one.group.clone(),
                one.topic.clone(),
                one.partition.to_string(),
                one.committed_offset.to_string(),
                one.end_offset.to_string(),
            ]);
        }
        out = format!("\n{}", table.render());
    }
    if !told.silent.is_empty() {
        out += &format!(
            "\nnodes {} did not answer: groups that they coordinate are not looked at\n",
            output::list(&told.silent)
        );
    }
    out
}
