//! A node whose `__meta` was begun anew without it (ADR 0020): it hears of a leader of a later home epoch, and
//! follows that one.
//!
//! ```text
//!  a leader of __meta in e + 1 ──▶ asked for admission ──▶ where e + 1 began, F
//!     ──▶ promise e + 1, what is beyond F into the ledger, begin e + 1 as a learner (R15)
//! ```
//!
//! Until it hears it takes part in the old `__meta`; that a majority of those is alive and out of everybody's
//! reach is what the operator has ruled out. The two never mix: a group is (partition, home epoch) (R1).

use std::sync::Arc;
use std::time::Duration;

use isobar_topology::Topology;
use isobar_transport::Transport;

use super::bootstrap;
use super::inbound::method;
use super::node::end_fenced;
use crate::metadata::image::DiskId;
use crate::metadata::request::{Admitted, Reply, Request, Response};
use crate::metadata::service;
use crate::model::{HomeEpoch, NodeId, Term, TopicPartition};
use crate::replica;
use crate::replica::driver::{Mover, Refused};

/// For one question; it is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_RETRY: Duration = Duration::from_secs(1);

/// EX_TEMPFAIL of sysexits.h: started again, it goes on.
const BEGIN_ANEW: i32 = 75;

pub struct Rejoin {
    pub node: NodeId,
    pub disk: DiskId,
    pub topology: Arc<Topology>,
    pub transport: Transport,
    pub mover: Mover,
    pub replicas: replica::Handle,
    pub metadata: service::Handle,
    /// Of the replica of `__meta` here.
    pub home_epoch: HomeEpoch,
}

impl Rejoin {
    /// Runs as long as the node.
    pub async fn watch(mut self) {
        let mut said = String::new();
        loop {
            let leaders = self.replicas.leaders();
            leaders
                .known_as(TopicPartition::META, |leader| epoch_of(leader) > self.home_epoch)
                .await;
            let Some(leader) = leaders.of(TopicPartition::META) else { continue };
            match self.follow(leader.node).await {
                Ok(Some(epoch)) => self.home_epoch = epoch,
                Ok(None) => tokio::time::sleep(ASK_RETRY).await,
                Err(error) => {
                    let text = error.to_string();
                    if said != text {
                        tracing::error!(node = %self.node, %error, "the __meta that was recovered is not followed yet");
                        said = text;
                    }
                    tokio::time::sleep(ASK_RETRY).await;
                }
            }
        }
    }

    /// Follows the leader into its epoch; `None` if it has not answered.
    async fn follow(&self, leader: NodeId) -> Result<Option<HomeEpoch>, Refused> {
        let Some(admitted) = self.ask(leader).await else { return Ok(None) };
        let Some(fork) = admitted.fork.clone().filter(|_| admitted.home_epoch > self.home_epoch)
        else {
            return Ok(None);
        };
        let spec = bootstrap::admitted_spec(&self.topology, self.node, &admitted);
        let Some(spec) = spec else { return Ok(None) };
        tracing::warn!(
            node = %self.node, %leader, home_epoch = %fork.home_epoch, cut = %fork.at.index,
            "__meta was recovered without its majority: this node leaves the one that it had, and follows"
        );
        // After the promise nothing is read that is not read now. What is in the old log and not in the new one
        // is in memory in many places.
        self.mover.seal(TopicPartition::META, fork.home_epoch).await?;
        let shown = self.replicas.view(TopicPartition::META).map(|v| v.progress().high_watermark);
        let read = shown.into_iter().chain([self.metadata.image().next_offset]);
        let is_beyond = read.max() > Some(fork.at.offset);
        let suffix = match is_beyond {
            true => self.mover.begin_epoch_closed(&spec, &fork).await?,
            false => self.mover.begin_epoch(spec, &fork).await?.1,
        };
        if let Some(suffix) = suffix {
            let records = suffix.manifest.content.records;
            tracing::warn!(
                node = %self.node, records, ledger = %suffix.dir.display(),
                "decisions that the recovered __meta does not have are in the ledger, and hold no more"
            );
        }
        if is_beyond {
            tracing::warn!(node = %self.node, "the process ends, and follows the recovered __meta when it is started again");
            std::process::exit(BEGIN_ANEW);
        }
        Ok(Some(admitted.home_epoch))
    }

    async fn ask(&self, leader: NodeId) -> Option<Admitted> {
        let (node, disk) = (self.node, self.disk);
        let request = Request::AdmitDisk { node, disk, accept_loss: false }.encode();
        let reply =
            self.transport.call(leader, method::METADATA, request.into(), ASK_TIMEOUT).await;
        match Reply::decode(&reply.ok()?).ok()? {
            Reply::Done { response: Response::Admitted(admitted), .. } => Some(admitted),
            Reply::Refused(refusal) if bootstrap::is_for_ever(refusal.reason) => {
                end_fenced(node, &refusal.message)
            }
            _ => None,
        }
    }
}

fn epoch_of(leader: &replica::Leader) -> HomeEpoch {
    Term(leader.epoch.try_into().expect("a leader epoch is a term")).home_epoch()
}
