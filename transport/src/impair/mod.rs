//! A WAN in one process: what [`Wan`] says about a pair of DCs happens to every UDP packet between
//! their nodes, below QUIC. For `isobar dev` and tests; `isobar start` must not be given one.
//!
//! ```text
//!  quinn ─▶ ImpairedSocket ─ same DC or clear ──────────────────────────────▶ UDP socket
//!                   │ LinkModel::admit per packet: lost | cut | queue full | release time
//!                   └──▶ heap by release time ─▶ one thread for all sockets ─▶ UDP socket
//! ```
//!
//! Only what a node sends is impaired, so that each direction has settings of its own and a round
//! trip is the sum of two. One thread releases for all sockets: a timer of the runtime rounds up to a
//! millisecond, and a task that sleeps per packet delivered 87–98 % of packets out of order.
//!
//! Missing on purpose: Kafka clients' TCP (use a proxy), reordering, duplication, corruption (QUIC
//! drops what it cannot authenticate: the same as loss).

mod link_model;
mod release;
mod socket;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use isobar_topology::DcName;

pub use link_model::{Counters, Link, LinkModel, QUEUE_MAX};
pub(crate) use socket::ImpairedSocket;

/// The shared model of all links, changed while it runs. Share it between all nodes of a process.
pub struct Wan {
    seed: u64,
    directions: RwLock<BTreeMap<(DcName, DcName), Arc<Direction>>>,
    places: RwLock<HashMap<SocketAddr, DcName>>,
    releaser: release::Releaser,
}

/// One ordered pair of DCs. All nodes of a DC share it, as they would share its uplink.
struct Direction {
    /// Read without the lock for each packet that passes untouched.
    clear: AtomicBool,
    model: Mutex<LinkModel>,
}

/// A direction as it is.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkState {
    pub from: DcName,
    pub to: DcName,
    pub link: Link,
    pub counters: Counters,
}

impl Wan {
    /// All links clear. The seed decides which packets are lost.
    pub fn new(seed: u64) -> Wan {
        Wan {
            seed,
            directions: RwLock::default(),
            places: RwLock::default(),
            releaser: release::Releaser::new(),
        }
    }

    /// Both directions alike. Replaces all settings, a cut included.
    pub fn set(&self, a: &DcName, b: &DcName, link: Link) {
        self.set_one_way(a, b, link.clone());
        self.set_one_way(b, a, link);
    }

    pub fn set_one_way(&self, from: &DcName, to: &DcName, link: Link) {
        self.direction(from, to).change(|model| model.set(link));
    }

    /// The settings of one direction, to change some of them.
    pub fn link(&self, from: &DcName, to: &DcName) -> Link {
        let direction = self.direction(from, to);
        let model = direction.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.link().clone()
    }

    /// Nothing passes from `a` to `b`; nor back, unless `one_way`.
    pub fn cut(&self, a: &DcName, b: &DcName, one_way: bool) {
        self.direction(a, b).change(|model| model.set_cut(true));
        if !one_way {
            self.direction(b, a).change(|model| model.set_cut(true));
        }
    }

    /// Ends a cut, both ways. Delay, jitter, loss and rate stay.
    pub fn heal(&self, a: &DcName, b: &DcName) {
        self.direction(a, b).change(|model| model.set_cut(false));
        self.direction(b, a).change(|model| model.set_cut(false));
    }

    /// Every direction that was ever set, in order of names.
    pub fn show(&self) -> Vec<LinkState> {
        let directions = self.directions.read().unwrap_or_else(PoisonError::into_inner);
        let state = |((from, to), direction): (&(DcName, DcName), &Arc<Direction>)| {
            let model = direction.model.lock().unwrap_or_else(PoisonError::into_inner);
            LinkState {
                from: from.clone(),
                to: to.clone(),
                link: model.link().clone(),
                counters: model.counters(),
            }
        };
        directions.iter().map(state).collect()
    }

    /// How late packets left, against their release time: the honesty of the emulation on a busy machine.
    pub fn lateness(&self) -> Lateness {
        self.releaser.lateness()
    }

    /// Packets to this address go to `dc`. Transports register themselves and their peers.
    pub fn register(&self, addr: SocketAddr, dc: DcName) {
        self.places.write().unwrap_or_else(PoisonError::into_inner).insert(addr, dc);
    }

    fn place(&self, addr: &SocketAddr) -> Option<DcName> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).get(addr).cloned()
    }

    fn direction(&self, from: &DcName, to: &DcName) -> Arc<Direction> {
        let key = (from.clone(), to.clone());
        let mut directions = self.directions.write().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let model = LinkModel::new(Link::default(), seed_of(self.seed, from, to));
            Arc::new(Direction { clear: AtomicBool::new(true), model: Mutex::new(model) })
        };
        directions.entry(key).or_insert_with(new).clone()
    }
}

impl Direction {
    fn change(&self, change: impl FnOnce(&mut LinkModel)) {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut model);
        self.clear.store(model.link().is_clear(), Ordering::Relaxed);
    }
}

/// What the release thread achieved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lateness {
    pub packets: u64,
    pub mean: Duration,
    pub max: Duration,
    /// Lost because more was held back than [`crate::limits::IMPAIRED_BYTES_MAX`], or because the
    /// socket did not take it: the emulation's fault, not the link's.
    pub overflowed: u64,
}

impl std::fmt::Debug for Wan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wan").field("links", &self.show()).finish()
    }
}

/// Each direction draws from a source of its own (FNV-1a over the names).
fn seed_of(seed: u64, from: &DcName, to: &DcName) -> u64 {
    let names = from.as_str().bytes().chain(*b">").chain(to.as_str().bytes());
    names.fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
