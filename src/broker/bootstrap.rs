//! The first start of a cluster, and of a node: never a second cluster, never a second life of a
//! replica that has voted.
//!
//! ```text
//! data directory has __meta ──▶ resume it
//! empty ─▶ ask every node WHO ─┬─ nobody knows a cluster ──▶ found it: an empty __meta
//!                              ├─ somebody knows one ──▶ ask its leader for admission: a learner of
//!                              │                         __meta under a new replica id
//!                              └─ too many of __meta's voters are empty ──▶ refused
//! ```
//!
//! A wiped voter has forgotten its votes (H31), so it never comes back under its old replica id. Only
//! those who found the cluster begin with a vote. The cluster's id travels in the transport's
//! handshake too: nodes of two clusters never talk.

mod spec;
mod who;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use isobar_topology::Topology;
use isobar_transport::Transport;
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use self::spec::{admitted_spec, founding_spec, log_config, resumed_spec, ticks};
pub use self::who::answer;
use self::who::{Answers, Verdict};
use super::inbound::method;
use crate::metadata::image::DiskId;
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::{Admitted, Reply, Request, Response};
use crate::model::NodeId;
use crate::replica::driver::Spec;

/// How long a node waits for an answer to WHO, and between two questions. A WAN round trip and a
/// handshake fit.
const WHO_TIMEOUT: Duration = Duration::from_secs(2);
const WHO_EVERY: Duration = Duration::from_millis(250);

/// How long a node waits before it says what for, and between two sentences about it.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// How long a majority of empty voters waits for the rest to say that there is a cluster already,
/// before it founds one without them. Five connection attempts; it is waited only where a node is
/// down on the very first start. Nobody acknowledges anything meanwhile.
const FOUND_WITHOUT_SOME: Duration = Duration::from_secs(10);

/// How long a node that must not begin goes on answering: others who are empty, too, come to the same
/// end only when they have heard it. Two questions and their answers fit.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// How long one request for admission may take: a few WAN round trips. It is asked again, and asking
/// twice is as good as once.
const ADMIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How often one request is sent on to another node that is said to lead.
const HOPS_MAX: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("node {node} is not admitted: {refusal}")]
    Refused { node: NodeId, refusal: Refusal },
    #[error(
        "node {node} comes with an empty disk, and so do others: of the voters of __meta in cluster \
         {cluster_id} ({voters}), {empty} have lost their disks, and without a majority nobody may say \
         what was decided. Nothing was changed. Put the old data directories back, at least of so many \
         that a majority has them"
    )]
    MajorityLost { node: NodeId, cluster_id: String, voters: String, empty: String },
    #[error(
        "the data directory of node {node} has been in cluster {cluster_id} and has no __meta any more: \
         a part of it is gone. Put it back whole, or empty it whole, {identity} too: the node is then \
         admitted with a new disk",
        identity = crate::log::IDENTITY_FILE
    )]
    Emptied { node: NodeId, cluster_id: String },
    #[error(
        "the recovery of __meta on node {0} was interrupted: run `isobar meta recover` again, as before, and \
         then start it"
    )]
    Unfinished(NodeId),
}

/// How a node with an empty disk begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// With these nodes, on these disks, and an empty `__meta`.
    Founded(BTreeMap<NodeId, DiskId>),
    /// As a replica of a `__meta` that there is.
    Admitted(Admitted),
}

/// Who asks, and on whose word.
pub struct Newcomer<'a> {
    pub topology: &'a Topology,
    pub transport: &'a Transport,
    pub node: NodeId,
    pub disk: DiskId,
    pub accept_loss: bool,
}

/// Set when this node has a replica of `__meta`: who voted in it when it was opened. Shared with who
/// answers WHO.
pub type Begun = Arc<OnceLock<Vec<NodeId>>>;

/// The nodes that vote, as a replica that is opened knows it.
pub fn voters(spec: &Spec) -> Vec<NodeId> {
    spec.members.values().filter(|member| member.voter).map(|member| member.node).collect()
}

impl Newcomer<'_> {
    /// Asks until it is clear how this node may begin.
    pub async fn begin(&self) -> Result<Beginning, Error> {
        let (answers_in, mut answered) = mpsc::channel(64);
        let mut asking = tokio::task::JoinSet::new();
        for peer in self.topology.nodes().map(|n| n.id).filter(|id| *id != self.node) {
            let (transport, answers) = (self.transport.clone(), answers_in.clone());
            asking.spawn(who::keep_asking(transport, peer, answers));
        }
        let mut answers = Answers::new(self.topology, self.node);
        let mut look = tokio::time::interval(WHO_EVERY);
        let mut agreed_since: Option<Instant> = None;
        let (mut said, mut say_at) = (String::new(), Instant::now() + SAY_EVERY);
        loop {
            tokio::select! {
                answer = answered.recv() => {
                    let answer = answer.expect("this end is held here too");
                    answers.take(Instant::now(), answer);
                }
                _ = look.tick() => {}
            }
            // Those that came while admission was asked for count before it is asked for again.
            while let Ok(answer) = answered.try_recv() {
                answers.take(Instant::now(), answer);
            }
            match answers.judge() {
                Verdict::Found => return Ok(self.found(&answers)),
                Verdict::Agreed => {
                    let since = *agreed_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= FOUND_WITHOUT_SOME {
                        tracing::warn!(
                            node = %self.node,
                            missing = %who::list(&answers.missing()),
                            "founding a new cluster without nodes that do not answer"
                        );
                        return Ok(self.found(&answers));
                    }
                }
                Verdict::Wait => agreed_since = None,
                Verdict::Lost(lost) => {
                    tokio::time::sleep(LAST_WORDS).await;
                    return Err(lost);
                }
                Verdict::Join => {
                    if let Some(admitted) = self.ask(&answers).await? {
                        return Ok(Beginning::Admitted(admitted));
                    }
                    // Else every answer would be one more request.
                    tokio::time::sleep(WHO_EVERY).await;
                }
            }
            let waits = answers.waits_for();
            if waits != said && Instant::now() >= say_at {
                say_at = Instant::now() + SAY_EVERY;
                tracing::info!(node = %self.node, "this disk is empty: {waits}");
                said = waits;
            }
        }
    }

    fn found(&self, answers: &Answers) -> Beginning {
        let mut founders = answers.disks();
        founders.insert(self.node, self.disk);
        Beginning::Founded(founders)
    }

    /// One attempt at being admitted; `None` if it is to be made again.
    async fn ask(&self, answers: &Answers) -> Result<Option<Admitted>, Error> {
        let (node, disk, accept_loss) = (self.node, self.disk, self.accept_loss);
        let request = Request::AdmitDisk { node, disk, accept_loss }.encode();
        for first in answers.who_know() {
            let mut to = first;
            for _ in 0..HOPS_MAX {
                let call = request.clone().into();
                let reply = self.transport.call(to, method::METADATA, call, ADMIT_TIMEOUT).await;
                let reply = reply.ok().and_then(|reply| Reply::decode(&reply).ok());
                match reply {
                    Some(Reply::Done { response: Response::Admitted(admitted), .. }) => {
                        tracing::info!(%node, replica = %admitted.replica, "admitted to __meta");
                        return Ok(Some(admitted));
                    }
                    Some(Reply::Refused(refusal)) if is_for_ever(refusal.reason) => {
                        return Err(Error::Refused { node, refusal });
                    }
                    Some(Reply::NotLeader { hint: Some(leader) }) if leader != to => to = leader,
                    _ => break,
                }
            }
        }
        Ok(None)
    }
}

/// Whether the answer is the same however often one asks.
pub fn is_for_ever(reason: Reason) -> bool {
    !matches!(reason, Reason::NotReady | Reason::Stale | Reason::Unknown)
}
