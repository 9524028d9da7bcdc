//! Carries out on this node what the image asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use isobar_topology::Topology;
use isobar_topology::policy::{Flush, OnIsolation, OnSyncLoss, Settings};

use super::bootstrap::ticks;
use crate::log::{self, Position};
use crate::metadata::apply::disks;
use crate::metadata::config::{self, Effective};
use crate::metadata::image::{DiskId, Image};
use crate::metadata::moves::{Report, owed, word};
use crate::metadata::reconciler::{
    Action, Create, Local, LocalReplica, Members, RemoveReason, members, reconcile,
};
use crate::metadata::refusal::{Reason, Refusal};
use crate::metadata::request::Request;
use crate::metadata::service;
use crate::model::{GroupId, HomeEpoch, Mode, NodeId, ReplicaId, TopicPartition};
use crate::replica::core::Budget;
use crate::replica::core::config::{AckPolicy, Member};
use crate::replica::driver::{Mover, Orders, Policy, Refused, Spec};

/// For one report; it is repeated until it was heard.
const REPORT_TIMEOUT: Duration = Duration::from_secs(10);
const REPORT_RETRY: Duration = Duration::from_secs(1);

/// What this node has of the image's replicas, and how it gets to have the rest.
pub struct Reconciler {
    node: NodeId,
    disk: DiskId,
    orders: Orders,
    mover: Mover,
    metadata: service::Handle,
    /// Open here.
    replicas: BTreeMap<TopicPartition, LocalReplica>,
    /// On the disk since an earlier life, and not opened yet.
    asleep: BTreeMap<TopicPartition, LocalReplica>,
    /// Moves to these home epochs that `__meta` is being told of, or has been, by this process.
    told: BTreeSet<(TopicPartition, HomeEpoch)>,
    /// Of the placement of `__meta` that its replica was told of.
    meta_generation: u64,
    /// What could not be done last.
    said: String,
    /// Asleep, and unknown to a `__meta` that has forgotten: not removed.
    forgotten: BTreeSet<TopicPartition>,
}

/// What the disk has, for a reconciler that starts.
pub fn on_disk<'a>(
    recovered: impl Iterator<Item = &'a log::Recovered>,
) -> BTreeMap<TopicPartition, LocalReplica> {
    let replica = |r: &log::Recovered| LocalReplica {
        id: r.state.replica,
        home_epoch: r.state.home_epoch,
        promised: r.state.promised.max(r.state.home_epoch),
        placement_generation: r.state.placement_generation,
        recorded: Mode::default(),
        effective: None,
    };
    let ours = recovered.filter(|r| r.partition != TopicPartition::META);
    ours.map(|r| (r.partition, replica(r))).collect()
}

impl Reconciler {
    pub fn new(
        node: NodeId,
        disk: DiskId,
        (orders, mover, metadata): (Orders, Mover, service::Handle),
        asleep: BTreeMap<TopicPartition, LocalReplica>,
    ) -> Self {
        let (replicas, told, said) = (BTreeMap::new(), BTreeSet::new(), String::new());
        let (meta_generation, forgotten) = (0, BTreeSet::new());
        Self {
            node,
            disk,
            orders,
            mover,
            metadata,
            replicas,
            asleep,
            told,
            meta_generation,
            said,
            forgotten,
        }
    }

    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Refuses an image that says that this disk was replaced.
    pub fn check(&self, image: &Image) -> Result<(), Refusal> {
        disks::check(image, self.node, self.disk)
    }

    /// Follows one image. `is_current`: it is at least as new as what was committed when this node
    /// registered, so that what it lacks is gone and not merely not here yet. `false` if something could not be
    /// done, a full disk say: then it is worth calling again, whether the image changes or not.
    pub async fn follow(&mut self, image: &Image, is_current: bool) -> bool {
        let Some(topology) = image.topology.clone() else { return true };
        self.place_meta(image);
        let local =
            Local { node: self.node, disk: self.disk, replicas: &self.replicas, is_current };
        let actions = reconcile(image, &local);
        // What slept and is no longer placed here goes, once it is certain that it is not merely
        // unknown yet; what is placed here was opened from the disk by the actions.
        let sleeping = Local { replicas: &self.asleep, ..local };
        let goes = reconcile(image, &sleeping);
        let goes = goes.into_iter().filter(|a| matches!(a, Action::Remove { .. }));
        let goes: Vec<_> = goes.filter(|action| !self.is_forgotten(image, action)).collect();
        let mut is_done = true;
        for action in goes.into_iter().chain(actions) {
            let done = self.carry_out((image, &topology), action).await;
            is_done &= self.is_done(done);
        }
        let told = self.tell_owed(image).await;
        self.is_done(told) && is_done
    }

    /// A `__meta` that was begun anew without its majority may lack what was decided before: what it does not
    /// know, and this process has not seen it delete, is not known to be deleted.
    fn is_forgotten(&mut self, image: &Image, action: &Action) -> bool {
        let Action::Remove { partition, reason, .. } = action else { return false };
        if image.recoveries.is_empty() || *reason == RemoveReason::Replaced {
            return false;
        }
        if self.forgotten.insert(*partition) {
            tracing::warn!(
                node = %self.node, %partition,
                "on this disk, and __meta, which was recovered without its majority, does not know it: it is kept, and not opened"
            );
        }
        true
    }

    /// Says why not, once for each reason; it may last.
    fn is_done(&mut self, done: Result<(), Refused>) -> bool {
        let Err(error) = done else { return true };
        let text = error.to_string();
        if self.said != text {
            tracing::error!(node = %self.node, %error, "a replica could not be opened, moved or removed");
            self.said = text;
        }
        false
    }

    /// The home has moved: this replica keeps what its log has in common with the new one's, and begins
    /// the new epoch (R15). What it had beyond is told to `__meta` once it is in the ledger.
    async fn begin_epoch(
        &mut self,
        (image, topology): (&Image, &Topology),
        create: Create,
    ) -> Result<(), Refused> {
        let (at, replica) = (create.partition, local(&create));
        let fork = create.fork.clone().expect("an epoch after the first has a fork");
        let epoch = create.home_epoch;
        let begun = self.mover.begin_epoch(spec(topology, create), &fork).await;
        if let Err(Refused::Log(log::Error::Promised { promised, .. })) = begun {
            self.has_promised(at, promised);
            return Ok(());
        }
        let (sealed, suffix) = begun?;
        self.asleep.remove(&at);
        self.replicas.insert(at, replica);
        if let Some(suffix) = suffix {
            tracing::warn!(
                node = %self.node, partition = %at, home_epoch = %epoch, records = suffix.manifest.content.records, ledger = %suffix.dir.display(),
                "what the new home lacks is in the ledger"
            );
        }
        let last =
            Position { index: sealed.last.0, term: sealed.last.1, offset: sealed.next_offset };
        self.tell(image, (at, epoch), sealed.replica, Some(last)).await
    }

    /// Whoever carries a later move had its promise before the image came to this one: it begins that epoch, from
    /// the log that it has told of, and none before.
    fn has_promised(&mut self, at: TopicPartition, promised: HomeEpoch) {
        tracing::info!(node = %self.node, partition = %at, %promised, "a sealed replica waits for its next home");
        if let Some(asleep) = self.asleep.remove(&at) {
            self.replicas.insert(at, asleep);
        }
        if let Some(replica) = self.replicas.get_mut(&at) {
            replica.promised = promised;
        }
    }

    /// Tells of what had been cut off before this process was there to tell, or while its replica was away
    /// during more than one move.
    async fn tell_owed(&mut self, image: &Image) -> Result<(), Refused> {
        let here = |at| self.replicas.get(&at).map(|replica| (replica.id, replica.home_epoch));
        let all = owed(image, here).map(|(moved, id)| ((moved.at, moved.home_epoch), id));
        let untold = all.filter(|(of, _)| !self.told.contains(of));
        for (of, replica) in untold.collect::<Vec<_>>() {
            self.tell(image, of, replica, None).await?;
        }
        Ok(())
    }

    async fn tell(
        &mut self,
        image: &Image,
        of: (TopicPartition, HomeEpoch),
        replica: ReplicaId,
        sealed: Option<Position>,
    ) -> Result<(), Refused> {
        let ledger = self.mover.ledger(of.0).await?;
        let word = word(image, of, (replica, self.node), &ledger, sealed);
        self.told.insert(of);
        tokio::spawn(report(self.metadata.clone(), word));
        Ok(())
    }

    /// The replica of `__meta` is there before the image is; who the others are comes with it.
    fn place_meta(&mut self, image: &Image) {
        let Some(meta) = &image.meta else { return };
        if meta.placement_generation > self.meta_generation {
            self.meta_generation = meta.placement_generation;
            let members = members_by_id(&members(image, meta));
            self.orders.placement(TopicPartition::META, self.meta_generation, members);
        }
    }

    async fn carry_out(
        &mut self,
        (image, topology): (&Image, &Topology),
        action: Action,
    ) -> Result<(), Refused> {
        match action {
            Action::Create(create) => {
                let asleep = self.asleep.get(&create.partition).map(|a| (a.id, a.home_epoch));
                match asleep.filter(|(id, _)| *id == create.replica) {
                    Some((_, epoch)) if epoch < create.home_epoch => {
                        self.begin_epoch((image, topology), *create).await?;
                    }
                    // The image is read from an older one on.
                    Some((_, epoch)) if epoch > create.home_epoch => {}
                    _ => {
                        let (at, replica) = (create.partition, local(&create));
                        self.orders.open(spec(topology, *create)).await?;
                        self.asleep.remove(&at);
                        self.replicas.insert(at, replica);
                    }
                }
            }
            Action::BeginEpoch(create) => self.begin_epoch((image, topology), *create).await?,
            Action::Seal { partition, epoch } => {
                self.mover.seal(partition, epoch).await?;
                if let Some(replica) = self.replicas.get_mut(&partition) {
                    replica.promised = epoch;
                }
            }
            Action::Remove { partition, reason, .. } => {
                tracing::info!(node = %self.node, %partition, ?reason, "replica removed");
                self.orders.remove(partition).await?;
                self.replicas.remove(&partition);
                self.asleep.remove(&partition);
            }
            Action::UpdatePlacement { partition, members } => {
                if let Some(replica) = self.replicas.get_mut(&partition) {
                    replica.placement_generation = members.placement_generation;
                    let generation = members.placement_generation;
                    self.orders.placement(partition, generation, members_by_id(&members));
                }
            }
            Action::UpdateMode { partition, home_epoch, mode } => {
                if let Some(replica) = self.replicas.get_mut(&partition) {
                    self.orders.recorded(partition, home_epoch, mode);
                    replica.recorded = mode;
                }
            }
            Action::UpdatePolicy { partition, effective } => {
                if let Some(replica) = self.replicas.get_mut(&partition) {
                    self.orders.policy(partition, policy(&effective));
                    replica.effective = Some(effective);
                }
            }
        }
        Ok(())
    }
}

/// Tells `__meta`, until it has heard, or keeps the move no more. It tells once a process, so nothing else ends it.
async fn report(metadata: service::Handle, report: Report) {
    loop {
        match metadata.submit(Request::ReportSuffix(report.clone()), REPORT_TIMEOUT).await {
            Ok(_) | Err(service::Error::ShuttingDown) => return,
            Err(service::Error::Refused(refusal)) if refusal.reason == Reason::Stale => return,
            Err(_) => tokio::time::sleep(REPORT_RETRY).await,
        }
    }
}

fn local(create: &Create) -> LocalReplica {
    LocalReplica {
        id: create.replica,
        home_epoch: create.home_epoch,
        promised: create.home_epoch,
        placement_generation: create.members.placement_generation,
        recorded: create.recorded,
        effective: Some(Arc::clone(&create.effective)),
    }
}

fn spec(topology: &Topology, create: Create) -> Spec {
    let Create { partition, topic, replica, home, home_epoch, members, effective, .. } = create;
    let Create { fork, lossy_cut, stands_in, began, recorded, .. } = create;
    let voters: Vec<NodeId> = members.voters.iter().map(|m| m.node).collect();
    Spec {
        group: GroupId { partition, home_epoch },
        topic_name: topic.to_string(),
        me: replica,
        home,
        preferred: members.voters.first().is_some_and(|m| m.id == replica),
        placement_generation: members.placement_generation,
        fork: fork.map(|fork| fork.at),
        lossy_cut,
        stands_in,
        began,
        recorded,
        timing: ticks(topology.timing(&voters)),
        policy: policy(&effective),
        members: members_by_id(&members),
    }
}

fn members_by_id(members: &Members) -> BTreeMap<ReplicaId, Member> {
    let voters = members.voters.iter().map(|m| (m, true));
    let learners = members.learners.iter().map(|m| (m, false));
    voters
        .chain(learners)
        .map(|(m, voter)| (m.id, Member { node: m.node, dc: m.dc.clone(), voter }))
        .collect()
}

fn policy(effective: &Effective) -> Policy {
    let settings = &effective.policy;
    Policy {
        ack: AckPolicy {
            sync_to: settings.replication.sync_to() as usize,
            degrade_after: (settings.on_sync_loss == OnSyncLoss::Degrade)
                .then_some(settings.sync_timeout),
            min_in_sync: settings.min_insync_replicas as usize,
            fence: settings.on_isolation == OnIsolation::Fence,
            log_append_time: effective.log_append_time,
            budget: budget(settings),
        },
        flush: settings.flush == Flush::Quorum,
        log: log_of(effective),
        retention: log::Retention { ms: effective.retention_ms, bytes: effective.retention_bytes },
    }
}

fn log_of(effective: &Effective) -> log::Config {
    let Effective { segment_bytes, segment_ms, .. } = *effective;
    log::Config { segment_bytes, segment_ms }
}

/// Where the segments of a partition end; `None` if the image has no such topic.
pub(super) fn log_config(image: &Image, at: TopicPartition) -> Option<log::Config> {
    config::effective(image, image.topics.get(&at.topic)?).map(|effective| log_of(&effective))
}

/// A topic that was made sync stays so under a policy that is async by now, and needs no budget.
fn budget(settings: &Settings) -> Budget {
    match settings.replication.sync_to() {
        0 => Budget {
            lag: settings.max_lag,
            bytes: settings.max_lag_bytes,
            records: settings.max_lag_records,
            on_lag: settings.on_lag,
        },
        _ => Budget::NONE,
    }
}
