//! Disks replaced in any order, with replicas cut off and news of placements late: what was
//! acknowledged stays.

use proptest::prelude::*;
use raft::{GetEntriesContext, Storage as _};

use super::*;

type Members = BTreeMap<ReplicaId, Member>;

#[derive(Debug, Clone)]
enum Step {
    Produce,
    Tick(u32),
    /// These nodes hear and say nothing from here on; the others do.
    Cut(BTreeSet<u64>),
    /// A node loses its disk, where the controller would give it a new replica.
    Replace(u64),
    /// What the leader has found to be caught up votes.
    Promote,
    /// These nodes hear of the newest placement.
    Tell(BTreeSet<u64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = || prop::collection::btree_set(1..=9u64, 0..5);
    let step = prop_oneof![
        6 => Just(Step::Produce),
        4 => (1..40u32).prop_map(Step::Tick),
        2 => prop::collection::btree_set(1..=9u64, 0..3).prop_map(Step::Cut),
        3 => (1..=4u64).prop_map(Step::Replace),
        3 => Just(Step::Promote),
        4 => some().prop_map(Step::Tell),
    ];
    prop::collection::vec(step, 10..80)
}

/// A cluster, and a controller that decides as the real one does.
struct World {
    cluster: Cluster,
    generation: u64,
    members: Members,
    dead: BTreeSet<ReplicaId>,
    silent: BTreeSet<u64>,
    acked: Vec<(Ticket, Bytes)>,
    produced: i64,
}

fn marked(mark: i64) -> Bytes {
    let mut b = BytesMut::from(&sample(1, None)[..]);
    b[27..35].copy_from_slice(&mark.to_be_bytes());
    let crc = batch::crc_of(&b);
    b[17..21].copy_from_slice(&crc.to_be_bytes());
    b.freeze()
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::new(ASYNC);
        let members = cluster.cores[&r(1)].config().members.clone();
        Self {
            cluster,
            generation: 1,
            members,
            dead: BTreeSet::new(),
            silent: BTreeSet::new(),
            acked: Vec::new(),
            produced: 0,
        }
    }

    fn replica_on(&self, node: u64) -> ReplicaId {
        let here = |(_, m): &(&ReplicaId, &Member)| u64::from(m.node.as_u32()) == node;
        *self.members.iter().find(here).expect("every node has a replica").0
    }

    fn follow_cuts(&mut self) {
        self.cluster.cut = self.dead.clone();
        let silent = self.silent.iter().map(|node| self.replica_on(*node)).collect::<Vec<_>>();
        self.cluster.cut.extend(silent);
    }

    fn leader(&self) -> Option<ReplicaId> {
        let cores = self.cluster.cores.iter().filter(|(id, _)| !self.cluster.cut.contains(id));
        cores.filter(|(_, c)| c.is_leader()).max_by_key(|(_, c)| c.term()).map(|(id, _)| *id)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Produce => self.produce(),
            Step::Tick(ticks) => self.cluster.tick(ticks),
            Step::Cut(nodes) => {
                self.silent = nodes;
                self.follow_cuts();
            }
            Step::Replace(node) => self.replace(node),
            Step::Promote => self.promote(),
            Step::Tell(nodes) => nodes.into_iter().for_each(|node| self.tell(node)),
        }
    }

    fn produce(&mut self) {
        let Some(leader) = self.leader() else { return };
        self.produced += 1;
        let bytes = marked(self.produced);
        let ticket = self.cluster.produce(leader, bytes.clone(), Acks::All);
        self.acked.push((ticket, bytes));
    }

    fn tell(&mut self, node: u64) {
        let (now, id) = (self.cluster.now, self.replica_on(node));
        let core = self.cluster.cores.get_mut(&id).unwrap();
        core.handle_placement(now, self.generation, self.members.clone());
        self.cluster.settle();
    }

    /// Whether Raft has done what the placement says, as its leader knows.
    fn is_followed(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let conf = self.cluster.cores[&leader].log().conf_state();
        let voters: BTreeSet<u64> = conf.voters.iter().copied().collect();
        let placed = self.members.iter().filter(|(_, m)| m.voter).map(|(id, _)| id.0);
        conf.voters_outgoing.is_empty() && voters == placed.collect()
    }

    fn waits(&self) -> Option<ReplicaId> {
        let home = dc(1);
        self.members.iter().find(|(_, m)| !m.voter && m.dc == home).map(|(id, _)| *id)
    }

    fn replace(&mut self, node: u64) {
        let (old, new) = (self.replica_on(node), ReplicaId((self.generation << 32) | node));
        if self.members[&old].voter && (self.waits().is_some() || !self.is_followed()) {
            return;
        }
        self.dead.insert(old);
        let member = self.members.remove(&old).unwrap();
        self.members.insert(new, Member { voter: false, ..member });
        self.generation += 1;
        let ids = |voter| {
            let of = self.members.iter().filter(move |(_, m)| m.voter == voter);
            of.map(|(id, _)| id.0).collect::<Vec<_>>()
        };
        let mut log = Restored::default();
        (log.conf_state.voters, log.conf_state.learners) = (ids(true), ids(false));
        log.hard_state.term = HomeEpoch::FIRST.first_term().0;
        let config = Config {
            me: new,
            members: self.members.clone(),
            placement_generation: self.generation,
            preferred: false,
            lossy_cut: None,
            ..self.cluster.cores[&old].config().clone()
        };
        let restart = Restart { log, conf_generation: self.generation, ..Restart::default() };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        self.cluster.cores.insert(new, Core::new(config, restart, new.0, &logger));
        self.follow_cuts();
    }

    fn promote(&mut self) {
        let (Some(waits), Some(leader)) = (self.waits(), self.leader()) else { return };
        let leader = &self.cluster.cores[&leader];
        let matched = leader.matched().get(&waits).copied();
        if matched.is_some_and(|matched| matched >= leader.committed()) {
            self.members.get_mut(&waits).unwrap().voter = true;
            self.generation += 1;
        }
    }

    /// All is well again, but for the disks that are gone.
    fn heal(&mut self) {
        self.silent.clear();
        self.follow_cuts();
        (1..=9).for_each(|node| self.tell(node));
        self.cluster.tick(400);
    }

    /// The batches of a log, with their offsets.
    fn batches(&self, id: ReplicaId) -> BTreeMap<i64, Bytes> {
        let log = self.cluster.cores[&id].log();
        let (low, high) = (log.first_index().unwrap(), log.last_index().unwrap() + 1);
        let entries = log.entries(low, high, None, GetEntriesContext::empty(false)).unwrap();
        let batches = entries.into_iter().filter(|e| e.data.len() >= batch::HEADER_BYTES);
        let base = |e: &raft::eraftpb::Entry| {
            i64::from_be_bytes(e.data[..8].try_into().expect("eight bytes"))
        };
        batches.map(|e| (base(&e), e.data.slice(batch::HEADER_BYTES - 34..))).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn replaced_disks_take_nothing_that_was_acknowledged(steps in steps()) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        world.heal();
        let leader = world.leader().expect("a majority lives, so somebody leads");
        prop_assert!(world.is_followed(), "Raft follows the placement");
        let log = world.batches(leader);
        for (ticket, bytes) in &world.acked {
            let Some(Ok(produced)) = world.cluster.replies.get(ticket) else { continue };
            let found = log.get(&produced.base_offset.0);
            prop_assert_eq!(found, Some(&bytes.slice(batch::HEADER_BYTES - 34..)));
        }
        for id in world.members.keys() {
            prop_assert_eq!(&world.batches(*id), &log, "replica {}", id);
        }
    }
}
