//! The peers that the topology names, and how a certificate is compared with them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use isobar_topology::NodeId;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::certs::Refusal;
use crate::inbound::Slot;
use crate::outbound::Outlet;
use crate::{Lane, LinkTuning, Peer, PeerIdentity, tuning};

/// One peer with its lanes.
pub(crate) struct Entry {
    pub(crate) config: Peer,
    pub(crate) identity: PeerIdentity,
    outlets: [Arc<Outlet>; 4],
    slots: [Slot; 4],
    /// To whom the peer says it has control up.
    reach: Mutex<BTreeSet<NodeId>>,
    /// Since when it should have spoken and did not: it is no longer told to others as reached, though control
    /// to it is up until QUIC gives it up.
    silent: Mutex<Option<Instant>>,
    /// Where its name led to at the last dial.
    resolved: Mutex<Option<SocketAddr>>,
    drivers: Mutex<Vec<AbortHandle>>,
    stopped: AtomicBool,
}

impl Entry {
    pub(crate) fn new(cluster: &str, config: Peer) -> Entry {
        let identity = PeerIdentity::new(cluster, config.dc.clone(), config.node);
        Entry {
            resolved: Mutex::new(config.addr.parse().ok()),
            config,
            identity,
            outlets: Lane::ALL.map(|lane| Arc::new(Outlet::new(lane))),
            slots: Lane::ALL.map(|_| Slot::default()),
            reach: Mutex::default(),
            silent: Mutex::default(),
            drivers: Mutex::default(),
            stopped: AtomicBool::new(false),
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.config.node
    }

    pub(crate) fn outlet(&self, lane: Lane) -> &Arc<Outlet> {
        &self.outlets[lane as usize]
    }

    pub(crate) fn outlets(&self) -> &[Arc<Outlet>; 4] {
        &self.outlets
    }

    pub(crate) fn slot(&self, lane: Lane) -> &Slot {
        &self.slots[lane as usize]
    }

    pub(crate) fn is_up(&self) -> bool {
        self.outlet(Lane::Control).is_up()
    }

    pub(crate) fn set_reach(&self, nodes: Vec<NodeId>) {
        *lock(&self.reach) = nodes.into_iter().collect();
    }

    pub(crate) fn reach(&self) -> BTreeSet<NodeId> {
        lock(&self.reach).clone()
    }

    pub(crate) fn reaches(&self, node: NodeId) -> bool {
        lock(&self.reach).contains(&node)
    }

    pub(crate) fn silent_since(&self) -> Option<Instant> {
        *lock(&self.silent)
    }

    /// Whether that is news.
    pub(crate) fn set_silent(&self, now: Instant) -> bool {
        let mut silent = lock(&self.silent);
        let news = silent.is_none();
        silent.get_or_insert(now);
        news
    }

    /// It spoke. Whether that is news.
    pub(crate) fn set_heard(&self) -> bool {
        lock(&self.silent).take().is_some()
    }

    pub(crate) fn resolved(&self) -> Option<SocketAddr> {
        *lock(&self.resolved)
    }

    pub(crate) fn set_resolved(&self, addr: SocketAddr) {
        *lock(&self.resolved) = Some(addr);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    pub(crate) fn keep_driver(&self, driver: AbortHandle) {
        lock(&self.drivers).push(driver);
    }

    /// Nothing is dialled any more, and what is open closes. The flag goes first: a connection that has just
    /// come about either finds it, after [`Traffic::begin`], or is found and closed here.
    ///
    /// [`Traffic::begin`]: crate::traffic::Traffic::begin
    pub(crate) fn stop(&self, code: quinn::VarInt, reason: &[u8]) {
        self.stopped.store(true, Ordering::SeqCst);
        lock(&self.drivers).drain(..).for_each(|driver| driver.abort());
        self.outlets.iter().for_each(|outlet| outlet.traffic.close(code, reason));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All peers. Replaced as a whole when the topology changes.
pub(crate) struct Directory {
    cluster: String,
    entries: RwLock<Arc<BTreeMap<NodeId, Arc<Entry>>>>,
}

impl Directory {
    pub(crate) fn new(cluster: &str) -> Directory {
        Directory { cluster: cluster.to_owned(), entries: RwLock::default() }
    }

    pub(crate) fn all(&self) -> Arc<BTreeMap<NodeId, Arc<Entry>>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn replace(&self, entries: BTreeMap<NodeId, Arc<Entry>>) {
        *self.entries.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(entries);
    }

    pub(crate) fn entry(&self, node: NodeId) -> Option<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).get(&node).cloned()
    }

    /// Whether a certificate's name is that of a peer: cluster, node and DC.
    pub(crate) fn accept(&self, name: &PeerIdentity) -> Result<(), Refusal> {
        if *name.cluster != *self.cluster {
            let ours = self.cluster.clone();
            return Err(Refusal::OtherCluster { name: name.clone(), ours });
        }
        let Some(entry) = self.entry(name.node) else {
            return Err(Refusal::UnknownNode { name: name.clone() });
        };
        match entry.config.dc == name.dc {
            true => Ok(()),
            false => {
                Err(Refusal::OtherDc { name: name.clone(), expected: entry.config.dc.to_string() })
            }
        }
    }

    /// The path that an address is likely to be on. Only settings depend on it, never identity.
    pub(crate) fn link_to(&self, addr: SocketAddr) -> LinkTuning {
        let entries = self.all();
        let at = |same: &dyn Fn(SocketAddr) -> bool| {
            let found = entries.values().find(|entry| entry.resolved().is_some_and(same));
            found.map(|entry| entry.config.link.clone())
        };
        at(&|known| known == addr)
            .or_else(|| at(&|known| known.ip() == addr.ip()))
            .unwrap_or_else(|| tuning::widest(entries.values().map(|entry| &entry.config.link)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_accepted_only_as_the_topology_has_it() {
        let directory = Directory::new("orders");
        let peer = Peer {
            node: NodeId::new(3).unwrap(),
            dc: "fra".parse().unwrap(),
            addr: "127.0.0.1:7400".to_owned(),
            link: LinkTuning::local(),
        };
        let entry = Arc::new(Entry::new("orders", peer));
        directory.replace(BTreeMap::from([(entry.node(), entry)]));
        let accept = |uri: &str| directory.accept(&uri.parse().unwrap());
        assert!(accept("spiffe://orders/dc/fra/node/3").is_ok());
        assert!(matches!(
            accept("spiffe://stock/dc/fra/node/3"),
            Err(Refusal::OtherCluster { .. })
        ));
        assert!(matches!(
            accept("spiffe://orders/dc/fra/node/4"),
            Err(Refusal::UnknownNode { .. })
        ));
        assert!(matches!(accept("spiffe://orders/dc/iad/node/3"), Err(Refusal::OtherDc { .. })));
    }
}
