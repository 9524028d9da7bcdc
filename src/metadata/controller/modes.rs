//! Changes of the mode of a sync topic, as the leaders of its partitions ask for them.

use isobar_topology::policy::OnSyncLoss;

use super::{Context, Decision, bounded};
use crate::metadata::command::Command;
use crate::metadata::config;
use crate::metadata::image::Image;
use crate::metadata::modes::Change;
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::Response;

pub fn change(context: &Context<'_>, changes: Vec<Change>) -> Result<Decision, Refusal> {
    bounded(changes.len())?;
    let mut commands = Vec::new();
    let mut results = Vec::with_capacity(changes.len());
    for (item, change) in changes.into_iter().enumerate() {
        let allowed = may(context.image, &change);
        if allowed.is_ok() {
            commands.push((item, Command::ChangeMode(change)));
        }
        results.push(allowed);
    }
    Ok(Decision { commands, response: Response::ModesChanged(results) })
}

/// Only a topic that is to degrade may; who asks may have an older policy. What stands against it
/// otherwise is looked at where it is applied.
fn may(image: &Image, change: &Change) -> Result<(), Refusal> {
    let topic = image.topics.get(&change.at.topic);
    let policy = topic.and_then(|topic| config::effective(image, topic)).map(|e| e.policy);
    let blocks = policy.is_some_and(|policy| policy.on_sync_loss == OnSyncLoss::Block);
    if change.mode.degraded && blocks {
        let message = format!("{} is not to degrade: on_sync_loss = \"block\"", change.at);
        return Err(Refusal::new(Reason::InvalidRequest, message));
    }
    Ok(())
}
