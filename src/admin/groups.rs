//! Consumer groups that have read on in a home that is lost, and what they are led back to (R25).
//!
//! Only a group's coordinator knows what is committed, so every node is asked for its groups.

use super::api;
use super::ask;
use super::cluster::{all, image, speaks};
use super::routes::Refusal;
use super::source::Source;

pub async fn led_back(source: &dyn Source) -> Result<api::LedBack, Refusal> {
    let image = image(source)?;
    let asked = image.nodes.keys().map(|node| async {
        let said = match speaks(source, *node) {
            true => ask::led_back(source, *node).await.ok(),
            // It is asked for when a home is lost, and nobody there would answer.
            false => None,
        };
        (*node, said)
    });
    let (mut groups, mut silent) = (Vec::new(), Vec::new());
    for (node, said) in all(asked).await {
        match said {
            Some(more) => groups.extend(more),
            None => silent.push(node.as_u32()),
        }
    }
    groups.sort();
    // A coordinator that moves meanwhile may have been asked where it was and where it is.
    groups.dedup();
    Ok(api::LedBack { led_back: groups, silent })
}
