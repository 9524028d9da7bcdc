//! What replicas tell `__meta` of what they had beyond a cut (R16), as `broker::reconcile` does: when they
//! begin a home, and after a restart what the ledger says they owe.

use isobar::log::{Manifest, Position, Sealed};
use isobar::metadata::moves::{owed, word};
use isobar::metadata::reconciler::Create;
use isobar::metadata::request::Request;
use isobar::model::{HomeEpoch, ReplicaId, TopicPartition};

use crate::jobs::Done;
use crate::meta::Proposer;
use crate::reconcile::local;
use crate::scenario::node_id;
use crate::world::World;

impl World {
    /// A replica has begun its next home epoch, and tells what it had beyond.
    pub fn begun(
        &mut self,
        node: usize,
        create: &Create,
        (sealed, ledger): (Sealed, Vec<Manifest>),
    ) {
        let at = create.partition;
        let running = self.nodes[node].running.as_mut().expect("its job has ended");
        running.asleep.remove(&at);
        running.local.insert(at, local(create));
        let (index, term) = sealed.last;
        let last = Position { index, term, offset: sealed.next_offset };
        self.tell(node, (at, create.home_epoch), sealed.replica, &ledger, Some(last));
    }

    pub fn tell(
        &mut self,
        node: usize,
        of: (TopicPartition, HomeEpoch),
        replica: ReplicaId,
        ledger: &[Manifest],
        sealed: Option<Position>,
    ) {
        let report = word(self.meta.image(node), of, (replica, node_id(node)), ledger, sealed);
        if let Some(running) = &mut self.nodes[node].running {
            running.told.insert(of);
        }
        let who = Proposer::Reporter(node, self.nodes[node].life);
        self.propose(node, Request::ReportSuffix(report), who);
    }

    /// Tells of one move that was not told of in this life; the others follow.
    pub fn tell_owed(&mut self, node: usize) {
        let Some(running) = &self.nodes[node].running else { return };
        let here = |at| running.local.get(&at).map(|replica| (replica.id, replica.home_epoch));
        let all =
            owed(self.meta.image(node), here).map(|(moved, id)| ((moved.at, moved.home_epoch), id));
        let Some((of, replica)) = all.into_iter().find(|(of, _)| !running.told.contains(of)) else {
            return;
        };
        let mover = running.mover.clone();
        self.follow_by(node, async move {
            let ledger = mover.ledger(of.0).await.map_err(|error| error.to_string());
            Done::Owed(of, replica, ledger)
        });
    }

    /// Whether every node has told what it owes, as far as it knows.
    pub fn is_all_told(&self) -> bool {
        self.nodes.iter().enumerate().all(|(node, place)| {
            place.running.as_ref().is_none_or(|running| {
                let here = |at| running.local.get(&at).map(|r| (r.id, r.home_epoch));
                owed(self.meta.image(node), here).next().is_none()
            })
        })
    }
}
