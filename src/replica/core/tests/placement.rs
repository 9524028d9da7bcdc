//! A replica whose disk is gone is replaced under a new id: learner first, then voter.

use super::*;

/// The second life of node 3.
fn reborn() -> ReplicaId {
    ReplicaId::of_meta(1, NodeId::new(3).unwrap())
}

/// The placement of the cluster, with node 3's replica replaced.
fn members(voter: bool) -> BTreeMap<ReplicaId, Member> {
    let node = |id| NodeId::new(id).unwrap();
    let mut members: BTreeMap<ReplicaId, Member> = (1..=9)
        .filter(|id| *id != 3)
        .map(|id| (r(id), Member { node: node(id), dc: dc(id), voter: id <= 2 }))
        .collect();
    members.insert(reborn(), Member { node: node(3), dc: dc(3), voter });
    members
}

impl Cluster {
    /// Node 3's disk is gone, and it comes back with an empty one.
    fn replace_node_3(&mut self) {
        self.cut.insert(r(3));
        let mut log = Restored::default();
        log.conf_state.voters = vec![1, 2];
        log.conf_state.learners = (4..=9).chain([reborn().0]).collect();
        log.hard_state.term = HomeEpoch::FIRST.first_term().0;
        let config = Config {
            me: reborn(),
            members: members(false),
            placement_generation: 2,
            preferred: false,
            lossy_cut: None,
            ..self.cores[&r(1)].config().clone()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let restart = Restart { log, conf_generation: 2, ..Restart::default() };
        self.cores.insert(reborn(), Core::new(config, restart, 3, &logger));
        self.place(2, members(false), None);
    }

    /// Everybody hears of a placement, but for one.
    fn place(
        &mut self,
        generation: u64,
        members: BTreeMap<ReplicaId, Member>,
        but: Option<ReplicaId>,
    ) {
        let now = self.now;
        for (id, core) in &mut self.cores {
            if Some(*id) != but && *id != r(3) {
                core.handle_placement(now, generation, members.clone());
            }
        }
        self.settle();
        self.tick(25);
    }

    fn voters(&self, of: ReplicaId) -> BTreeSet<u64> {
        let conf = self.cores[&of].log().conf_state();
        assert!(conf.voters_outgoing.is_empty(), "the joint configuration is left");
        conf.voters.iter().copied().collect()
    }
}

#[test]
fn a_replaced_voter_catches_up_as_a_learner_and_counts_once_it_is_promoted() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.produce(r(1), sample(3, None), Acks::All);
    cluster.replace_node_3();
    assert_eq!(cluster.voters(r(1)), BTreeSet::from([1, 2]));
    assert_eq!(cluster.cores[&reborn()].progress().high_watermark, Offset(3));
    assert_eq!(cluster.cores[&reborn()].progress().role, Role::Learner);

    cluster.place(3, members(true), None);
    let all = BTreeSet::from([1, 2, reborn().0]);
    assert_eq!((cluster.voters(r(1)), cluster.voters(reborn())), (all.clone(), all));
    cluster.cut.insert(r(2));
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(cluster.replies[&ticket].is_ok(), "its disk makes the majority");
}

#[test]
fn a_learner_that_replaces_a_voter_does_not_count_before_it_is_promoted() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.replace_node_3();
    cluster.cut.insert(r(2));
    let ticket = cluster.produce(r(1), sample(1, None), Acks::All);
    assert!(!cluster.replies.contains_key(&ticket), "two voters, one of them silent");
}

#[test]
fn a_leader_that_has_not_heard_of_the_newest_placement_changes_nothing() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.produce(r(1), sample(3, None), Acks::All);
    cluster.replace_node_3();
    cluster.place(3, members(true), Some(reborn()));
    let now = cluster.now;
    cluster.cores.get_mut(&r(1)).unwrap().handle_step_down(now);
    cluster.settle();
    assert_eq!(cluster.leader(), reborn(), "whose placement is still that of generation 2");
    cluster.tick(60);
    assert_eq!(cluster.voters(reborn()), BTreeSet::from([1, 2, reborn().0]));
}

#[test]
fn a_follower_of_the_metadata_quorum_hears_a_leader_that_it_was_not_told_of() {
    let cluster = Cluster::new(ASYNC);
    let core = &cluster.cores[&r(7)];
    assert_eq!(core.node_of(reborn()), NodeId::new(3).ok());
    assert_eq!(core.node_of(ReplicaId(1 << 32)), None, "there is no node 0");
}
