//! Sync topics that are degraded, and how they came to be (R7 to R9). From the image alone: what `__meta`
//! has on record is what a failover goes by.

use super::api;
use super::cluster::image;
use super::routes::Refusal;
use super::source::Source;
use super::topics::by_name;
use crate::metadata::image::Image;
use crate::model::TopicPartition;

pub fn show(source: &dyn Source) -> Result<api::Modes, Refusal> {
    let image = image(source)?;
    let mut degraded = Vec::new();
    for topic in by_name(&image) {
        for (partition, placed) in (0..).zip(&topic.partitions) {
            if placed.mode.degraded {
                degraded.push(api::Degraded {
                    topic: topic.name.to_string(),
                    partition,
                    home: placed.home.to_string(),
                    sync_to: placed.replication.sync_to(),
                    since_ms: since(&image, TopicPartition { topic: topic.id, partition }),
                });
            }
        }
    }
    let changes = image.modes.iter().map(|changed| api::ModeChange {
        at_ms: changed.change.at_ms,
        topic: changed.topic.to_string(),
        partition: changed.change.at.partition,
        home_epoch: changed.change.home_epoch.as_u32(),
        node: changed.change.node.as_u32(),
        degraded: changed.change.mode.degraded,
    });
    Ok(api::Modes { degraded, changes: changes.collect() })
}

/// The first of the changes since it was last sync; `None` if that is no longer on record.
fn since(image: &Image, at: TopicPartition) -> Option<i64> {
    let of = image.modes.iter().rev().filter(|changed| changed.change.at == at);
    let degraded = of.take_while(|changed| changed.change.mode.degraded);
    degraded.last().map(|changed| changed.change.at_ms)
}
