//! Damaged logs take again from healthy replicas what they have lost (R21).
//!
//! ```text
//!   a segment inside the log      any replica's committed entries, checked against those before it
//!   the log's end                 as much as the leader says that this replica has promised:
//!                                 max(what is committed, what it counts of this disk,
//!                                     what this disk is known to have had and it has itself)
//! ```
//!
//! Why that much. Whatever this disk had acknowledged, it did in a term not above the one that its
//! journal has. A leader of that term or a later one, whose own first entry is committed, has all of it
//! that any majority ever had: the entries of earlier terms by Raft's leader completeness, those of its
//! own because it counted them itself. Up to what is committed that log is this replica's promise, and
//! up to `matched` its leader relies on this disk. It will rely on more where an acknowledgement is still under way: up
//! to the durable mark, then, of what it has itself (what is beyond was never its own, or is of no term that it would
//! count). Until all of that is on disk again the replica stays closed: it neither votes nor answers. Where no such leader is to be had it waits; if this vote is
//! what the group lacks, a promise may be lost for good, and only an operator can say so.
//!
//! Not only up to the high watermark: where all voters are to have a record, no watermark goes on without this
//! replica, and a new leader does not even know where it stands (R6). What is committed and not seen yet is handed out
//! for that, and shown to nobody (R5).
//!
//! In a home in which the replica has not been in any term yet its promise ends at the cut, and all replicas of that home
//! may give entries up to there, whoever leads it: else a home whose majority needs this vote would never begin.
//!
//! A log whose home has moved while it was damaged is mended before it begins the next one, from replicas of that:
//! they have the same entries up to the cut, and none of what was beyond.

mod peers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use isobar_transport::RpcError;

pub(super) use self::peers::{Lanes, answer};
use crate::log::{self, Entry, Mend, MendError};
use crate::model::{DcName, GroupId, LogIndex, NodeId, ReplicaId, Term, TopicPartition};
use crate::replica::View;
use crate::replica::core::Standing;
use crate::replica::core::config::Member;
use crate::replica::core::effect::RangeWanted;
use crate::replica::driver::{Counters, Damaged, Mender, Orders, Refused, Spec};
use crate::replica::wire;

/// How often it is looked for damaged logs, and how long an attempt that failed waits: somebody may
/// have to come back, or to be elected.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// For one range, as when catching up.
pub const RANGE_TIMEOUT: Duration = Duration::from_secs(30);

/// For a word about where a replica stands: a WAN round trip or two.
pub const STANDING_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no replica gives entry {index}; the last one asked, {node}: {source}")]
    NoSource { index: LogIndex, node: NodeId, source: SourceError },
    #[error("entry {0} is to be fetched, and no other replica is known")]
    Alone(LogIndex),
    #[error("no leader of term {term} or later says what this replica had promised{}", away(home.as_ref()))]
    NoLeader {
        term: Term,
        /// Where the replica may be what its leader waits for, and `__meta` can move it away.
        home: Option<DcName>,
    },
    #[error(transparent)]
    Mend(#[from] MendError),
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Copies of what is readable can be made from the files; nothing here takes it out of them.
    #[error(
        "entries from {first} on are damaged in {}, and the home of the partition was moved from entry {cut} on: what this log may have had beyond is on no other disk. Copy the node's data directory for whoever looks into it, empty it, and start the node",
        path.display()
    )]
    BeyondCut { first: LogIndex, cut: LogIndex, path: PathBuf },
    /// Others' logs begin beyond it, and where those begin is not asked for here.
    #[error(
        "entries from {first} on are damaged in {}, and the other replicas have deleted entry {index}: it cannot be mended. Stop the node, move its data directory away, and start it: its replicas are made anew",
        path.display()
    )]
    Deleted { first: LogIndex, index: LogIndex, path: PathBuf },
    #[error("the node is stopping")]
    Stopping,
}

fn away(home: Option<&DcName>) -> String {
    let says = |home| {
        format!(
            ". Should the partition have no leader without this one's vote, `isobar dc failover {home} --plan` says what \
             it would lose elsewhere"
        )
    };
    home.map(says).unwrap_or_default()
}

/// Why one peer's answer was of no use.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(transparent)]
    Call(#[from] RpcError),
    #[error(transparent)]
    Wire(#[from] wire::Error),
    #[error(transparent)]
    Range(#[from] log::BadRange),
    #[error("it has term {found} at entry {index}, and here it is {here}")]
    OtherHistory { index: LogIndex, here: Term, found: Term },
    #[error("it gave nothing")]
    Empty,
    #[error("its log begins beyond that")]
    Deleted,
}

/// The way to other nodes: calls that may fail, and are not tried again here.
pub trait Peers: Clone + Send + Sync + 'static {
    /// Committed entries as they travel, from the node that `wanted` names.
    fn range(&self, wanted: RangeWanted)
    -> impl Future<Output = Result<Bytes, SourceError>> + Send;

    /// Where the replica `of` stands, as the one on `node` knows.
    fn standing(
        &self,
        node: NodeId,
        group: GroupId,
        of: ReplicaId,
    ) -> impl Future<Output = Result<Standing, SourceError>> + Send;
}

/// Whoever mends on a node.
#[derive(Clone)]
pub struct Mending<P> {
    pub node: NodeId,
    pub dc: DcName,
    pub peers: P,
    pub orders: Orders,
    pub mender: Mender,
    pub counters: Arc<Counters>,
}

/// Mends whatever stays closed, for as long as the node runs.
pub(super) async fn damaged(mending: Mending<impl Peers>) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said = std::collections::BTreeMap::new();
    loop {
        every.tick().await;
        // So that a healthy node's loop is not woken.
        if mending.counters.damaged.load(Relaxed) == 0 {
            continue;
        }
        let Ok(waiting) = mending.orders.damaged().await else { return };
        for damaged in waiting {
            let at = damaged.spec.group.partition;
            let Err(error) = mending.mend(damaged).await else {
                said.remove(&at);
                continue;
            };
            // Once for each reason; it may last.
            let text = error.to_string();
            if said.get(&at) != Some(&text) {
                tracing::warn!(node = %mending.node, partition = %at, %error, "not mended yet");
                said.insert(at, text);
            }
        }
    }
}

impl<P: Peers> Mending<P> {
    /// Mends a log that keeps its replica closed, and has it opened.
    pub async fn mend(&self, Damaged { spec, term, cut }: Damaged) -> Result<(), Error> {
        let (group, me) = (spec.group, spec.me);
        let at = group.partition;
        let Some(mut mend) = self.mender.begin(at, spec.policy.log).await? else { return Ok(()) };
        let others: Vec<Member> =
            spec.members.iter().filter(|(id, _)| **id != me).map(|(_, m)| m.clone()).collect();
        let wants = mend.wants().clone();
        if let Some(cut) = cut.filter(|cut| wants.last.is_none_or(|last| last > *cut)) {
            return Err(Error::BeyondCut { first: wants.damaged, cut, path: wants.path });
        }
        let upto = match wants.last {
            Some(last) => last,
            // It has promised nothing in this home yet.
            None if term == group.home_epoch.first_term()
                && let Some(fork) = spec.fork =>
            {
                fork.index
            }
            None => self.promised(&spec, term, wants.marked, &others).await?,
        };
        let fetched = self.fetch(&mut mend, group, upto, &others).await?;
        let mend = off_the_runtime(move || mend.settle().map(|()| mend)).await?;
        let mend = mend.map_err(MendError::Log)?;
        let (recovered, reader) = self.mender.adopt(mend).await?;
        self.counters.mended.fetch_add(1, Relaxed);
        tracing::warn!(
            node = %self.node, partition = %at, file = %wants.path.display(),
            first_damaged = %wants.damaged, from = %wants.after.0.next(), to = %upto, bytes = fetched,
            "a damaged log was mended with other replicas' entries"
        );
        Ok(self.orders.mended(recovered, reader).await?)
    }

    /// A log that is damaged where it is written is read again from the disk, and its replica takes no part until it is
    /// whole (R21). The disk stands still meanwhile for all that is on it, as long as one segment takes to read.
    pub(super) async fn doubt(&self, at: TopicPartition, index: LogIndex) -> Result<(), Error> {
        if !self.orders.let_go(at).await? {
            return Ok(());
        }
        let (recovered, reader) = self.mender.doubt(at, index).await?;
        Ok(self.orders.mended(recovered, reader).await?)
    }

    /// Puts another replica's segment in the place of the closed one of an open log that begins at `base`; `false` if
    /// there is none any more.
    pub(super) async fn replace(&self, view: &View, base: LogIndex) -> Result<bool, Error> {
        let at = view.partition;
        let Some((group, others)) = self.orders.members(at).await else { return Ok(false) };
        let begun = view.reader().mend_segment(base).map_err(MendError::Log)?;
        let Some(mut mend) = begun else { return Ok(false) };
        let last = mend.wants().last.expect("a segment's end is known");
        self.fetch(&mut mend, group, last, &others).await?;
        let spare = off_the_runtime(move || mend.spare()).await?.map_err(MendError::Log)?;
        let swapped = self.mender.swap(spare).await?;
        if swapped {
            self.counters.mended.fetch_add(1, Relaxed);
        }
        Ok(swapped)
    }

    /// Fetches what a mend wants, up to `upto`; how many bytes.
    async fn fetch(
        &self,
        mend: &mut Mend,
        group: GroupId,
        upto: LogIndex,
        others: &[Member],
    ) -> Result<usize, Error> {
        let mut bytes = 0;
        let mut first = Some(mend.wants().after).filter(|(index, _)| *index > LogIndex::ZERO);
        while let Some(next) = mend.next().filter(|next| *next <= upto) {
            let range = self.range(group, next, upto, first.take(), others).await;
            if let Err(Error::NoSource { index, source: SourceError::Deleted, .. }) = range {
                let wants = mend.wants();
                let (first, path) = (wants.damaged, wants.path.clone());
                return Err(Error::Deleted { first, index, path });
            }
            let (entries, size) = range.inspect_err(|_| {
                self.counters.ranges_failed.fetch_add(1, Relaxed);
            })?;
            self.counters.ranges_fetched.fetch_add(1, Relaxed);
            self.counters.range_bytes_fetched.fetch_add(size as u64, Relaxed);
            bytes += size;
            tokio::task::block_in_place(|| mend.take(entries))?;
        }
        Ok(bytes)
    }

    /// Those of this DC first.
    fn nearest_first<'a>(&self, others: &'a [Member]) -> impl Iterator<Item = &'a Member> {
        let mut others: Vec<&Member> = others.iter().collect();
        others.sort_by_key(|m| m.dc != self.dc);
        others.into_iter()
    }

    /// Entries from `next` on, and their bytes, from whoever has them. `before` is the entry before
    /// them here: whoever has another one there has another history, or this log has.
    async fn range(
        &self,
        group: GroupId,
        next: LogIndex,
        upto: LogIndex,
        before: Option<(LogIndex, Term)>,
        others: &[Member],
    ) -> Result<(Vec<Entry>, usize), Error> {
        let mut last = None;
        for member in self.nearest_first(others) {
            match self.range_of(group, next, upto, before, member.node).await {
                Ok(range) => return Ok(range),
                // One that has deleted it tells more than one that does not answer.
                Err(_) if matches!(last, Some((_, SourceError::Deleted))) => {}
                Err(error) => last = Some((member.node, error)),
            }
        }
        Err(match last {
            Some((node, source)) => Error::NoSource { index: next, node, source },
            None => Error::Alone(next),
        })
    }

    async fn range_of(
        &self,
        group: GroupId,
        next: LogIndex,
        upto: LogIndex,
        before: Option<(LogIndex, Term)>,
        source: NodeId,
    ) -> Result<(Vec<Entry>, usize), SourceError> {
        let from = before.map_or(next, |(index, _)| index);
        let (mut entries, mut bytes) = self.call(group, from, upto, source).await?;
        if let Some((index, here)) = before {
            let found =
                entries.first().filter(|e| e.index == index).ok_or(SourceError::Empty)?.term;
            if found != here {
                return Err(SourceError::OtherHistory { index, here, found });
            }
            entries.remove(0);
            if entries.is_empty() {
                // A segment ends there.
                (entries, bytes) = self.call(group, next, upto, source).await?;
            }
        }
        Ok((entries, bytes))
    }

    async fn call(
        &self,
        group: GroupId,
        from: LogIndex,
        upto: LogIndex,
        source: NodeId,
    ) -> Result<(Vec<Entry>, usize), SourceError> {
        let wanted = RangeWanted { source, group, from, to: upto.next() };
        let range = self.peers.range(wanted).await?;
        let entries = log::parse_range(group.partition, &range)?;
        if entries.is_empty() {
            return Err(SourceError::Empty);
        }
        Ok((entries, range.len()))
    }

    /// Up to where this replica must have the log again, as its leader says.
    async fn promised(
        &self,
        Spec { group, me, home, .. }: &Spec,
        term: Term,
        marked: LogIndex,
        others: &[Member],
    ) -> Result<LogIndex, Error> {
        for member in self.nearest_first(others).filter(|m| m.voter) {
            let standing = self.peers.standing(member.node, *group, *me).await;
            let Ok(standing) = standing else { continue };
            if let Some(upto) = promised(&standing, term, marked) {
                return Ok(upto);
            }
        }
        let home = (group.partition != TopicPartition::META).then(|| home.clone());
        Err(Error::NoLeader { term, home })
    }
}

/// On a thread that may wait for a disk; at once where there is no runtime, as in the simulator.
pub(super) async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn_blocking(work).await.map_err(|_| Error::Stopping),
        Err(_) => Ok(work()),
    }
}

/// What a leader's word comes to for a replica that may have promised in `term`, and up to `marked`; nothing if it is
/// no such leader's.
fn promised(standing: &Standing, term: Term, marked: LogIndex) -> Option<LogIndex> {
    let counts = standing.leads && standing.term >= term;
    let committed = standing.committed.filter(|_| counts)?;
    Some(committed.max(standing.matched).max(marked.min(standing.last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leader_of_its_last_term_or_later_with_a_commit_of_its_own_can_say_what_was_promised()
    {
        let (term, marked) = (Term(7), LogIndex(10));
        let (committed, matched, last) = (Some(LogIndex(20)), LogIndex(15), LogIndex(30));
        let leader = Standing { leads: true, term, committed, matched, last };
        assert_eq!(promised(&leader, term, marked), Some(LogIndex(20)));
        let relied_on = Standing { matched: LogIndex(23), ..leader };
        assert_eq!(
            promised(&relied_on, term, marked),
            Some(LogIndex(23)),
            "its leader counts on it"
        );
        assert_eq!(
            promised(&Standing { term: Term(9), ..leader }, term, marked),
            Some(LogIndex(20))
        );
        assert_eq!(
            promised(&leader, term, LogIndex(27)),
            Some(LogIndex(27)),
            "and will, once it hears"
        );
        assert_eq!(promised(&leader, term, LogIndex(40)), Some(LogIndex(30)), "nobody has more");
        for no_such in [
            Standing { leads: false, ..leader },
            Standing { term: Term(6), ..leader },
            Standing { committed: None, ..leader },
        ] {
            assert_eq!(promised(&no_such, term, marked), None, "{no_such:?}");
        }
    }
}
