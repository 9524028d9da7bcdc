//! Consumer groups that have read on in a home that is lost, and what they are led back to (R25).
//!
//! Only a group's coordinator knows what is committed, so every node is asked for its groups.

use super::api;
use super::ask;
use super::cluster::{all, image};
use super::routes::Refusal;
use super::source::Source;

pub async fn led_back(source: &dyn Source) -> Result<api::LedBack, Refusal> {
    let image = image(source)?;
    let asked =
        image.nodes.keys().map(|node| async { (*node, ask::led_back(source, *node).await) });
    let (mut groups, mut silent) = (Vec::new(), Vec::new());
    for (node, said) in all(asked).await {
        match said {
            Ok(more) => groups.extend(more),
            Err(_) => silent.push(node.as_u32()),
        }
    }
    groups.sort();
    Ok(api::LedBack { led_back: groups, silent })
}
