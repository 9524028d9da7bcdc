//! Log start (R24).

use super::*;

impl Cluster {
    fn delete(&mut self, before: i64) -> Ticket {
        let (ticket, deadline) = (Ticket(99), self.now.mono + Duration::from_secs(30));
        let core = self.cores.get_mut(&r(1)).unwrap();
        core.delete_records(self.now, ticket, Offset(before), deadline);
        self.settle();
        ticket
    }

    fn log_start(&self, id: u64) -> Offset {
        self.cores[&r(id)].progress().log_start
    }
}

#[test]
fn deleted_records_are_gone_on_every_replica_alike() {
    let mut cluster = Cluster::new(ASYNC);
    cluster.produce(r(1), sample(10, None), Acks::All);
    let ticket = cluster.delete(4);
    cluster.tick(4);
    assert_eq!(cluster.deleted[&ticket], Ok(Offset(4)));
    for id in 1..=9 {
        assert_eq!(cluster.log_start(id), Offset(4), "replica {id}");
    }
}

/// Seed 1882957799227647 of the simulator: the next home had not got the deletion, by proof, and the replicas of the
/// old one kept their log start.
#[test]
fn what_no_other_datacenter_knows_to_be_deleted_is_there_still() {
    let mut cluster = Cluster::new(AckPolicy { sync_to: 1, ..ASYNC });
    cluster.produce(r(1), sample(10, None), Acks::All);
    cluster.tick(4);
    cluster.cut_off_home();
    let ticket = cluster.delete(4);
    cluster.tick(4);
    assert_eq!(cluster.deleted.get(&ticket), None);
    for id in 1..=3 {
        let core = &cluster.cores[&r(id)];
        assert_eq!(core.committed(), core.log().last(), "at home it is committed on replica {id}");
        assert_eq!(cluster.log_start(id), Offset(0), "replica {id}");
    }
    cluster.heal();
    assert_eq!(cluster.deleted[&ticket], Ok(Offset(4)));
    for id in 1..=9 {
        assert_eq!(cluster.log_start(id), Offset(4), "replica {id}");
    }
}
