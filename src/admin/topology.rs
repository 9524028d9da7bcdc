//! The authoritative topology: shown, and proposals for another one.

use std::time::Duration;

use super::api;
use super::cluster::image;
use super::routes::Refusal;
use super::source::Source;
use crate::metadata::refusal::Reason;
use crate::metadata::request::{Request, Response};
use crate::metadata::service::Error;

/// As long as a Kafka client waits for an admin request.
const TIMEOUT: Duration = Duration::from_secs(30);

pub fn show(source: &dyn Source) -> Result<api::Topology, Refusal> {
    let image = image(source)?;
    let topology = image.topology.as_ref().expect("the image has one");
    Ok(api::Topology { generation: image.topology_generation, text: topology.source().to_owned() })
}

pub async fn propose(
    source: &dyn Source,
    proposal: api::TopologyProposal,
) -> Result<api::TopologyApplied, Refusal> {
    let api::TopologyProposal { text, expected_generation, validate_only } = proposal;
    image(source)?;
    let request = Request::ApplyTopology { text, expected_generation, validate_only };
    match source.submit(request, TIMEOUT).await {
        Ok(Response::Topology(applied)) => {
            Ok(api::TopologyApplied { generation: applied.generation, notes: applied.notes })
        }
        Ok(other) => panic!("a topology was proposed, and {other:?} came back"),
        Err(Error::Refused(refusal)) => Err(match refusal.reason {
            Reason::Stale => Refusal::Conflict(refusal.message),
            Reason::NotReady => Refusal::NotReady(refusal.message),
            _ => Refusal::Bad(refusal.message),
        }),
        Err(error @ (Error::NoLeader | Error::Busy)) => {
            Err(Refusal::NotReady(format!("{error}; nothing was changed, try again")))
        }
        Err(error) => {
            Err(Refusal::NotReady(format!("{error}; look at the generation before trying again")))
        }
    }
}
