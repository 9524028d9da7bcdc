//! How many connections there may be: of one address, at one listener, in all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// The limits of a node. Each connection costs a file descriptor and, idle, some 20 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From one IP address. A host with many clients has hundreds; a flood has thousands.
    pub per_ip: usize,
    /// At one listener, so that a flood outside leaves the inside listener usable.
    pub per_listener: usize,
    /// Of the node.
    pub total: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_ip: 1_000, per_listener: 4_000, total: 8_000 }
    }
}

/// Which limit a connection ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    PerIp,
    PerListener,
    Total,
}

/// Counts connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission {
    limits: Limits,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    by_ip: HashMap<IpAddr, usize>,
    by_listener: HashMap<Arc<str>, usize>,
    total: usize,
}

/// A connection's place; dropping it gives the place back.
#[derive(Debug)]
pub struct Admitted {
    counts: Arc<Mutex<Counts>>,
    ip: IpAddr,
    listener: Arc<str>,
}

impl Admission {
    pub fn new(limits: Limits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    pub fn admit(&self, listener: &Arc<str>, ip: IpAddr) -> Result<Admitted, Refused> {
        // An IPv4 client of a dual-stack socket is the same client.
        let ip = ip.to_canonical();
        let mut counts = self.counts.lock().expect("no panic while held");
        if counts.total >= self.limits.total {
            return Err(Refused::Total);
        }
        let at_listener = counts.by_listener.get(listener).copied().unwrap_or(0);
        if at_listener >= self.limits.per_listener {
            return Err(Refused::PerListener);
        }
        let of_ip = counts.by_ip.get(&ip).copied().unwrap_or(0);
        if of_ip >= self.limits.per_ip {
            return Err(Refused::PerIp);
        }
        counts.total += 1;
        *counts.by_listener.entry(listener.clone()).or_default() += 1;
        *counts.by_ip.entry(ip).or_default() += 1;
        Ok(Admitted { counts: self.counts.clone(), ip, listener: listener.clone() })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().expect("no panic while held");
        counts.total -= 1;
        *counts.by_listener.get_mut(&self.listener).expect("it was counted") -= 1;
        let of_ip = counts.by_ip.get_mut(&self.ip).expect("it was counted");
        *of_ip -= 1;
        // Addresses come and go: what is not counted must not stay.
        if *of_ip == 0 {
            counts.by_ip.remove(&self.ip);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn each_limit_refuses_and_a_place_given_back_is_free() {
        let admission = Admission::new(Limits { per_ip: 2, per_listener: 3, total: 4 });
        let (inside, outside): (Arc<str>, Arc<str>) = ("inside".into(), "outside".into());
        let first = admission.admit(&inside, ip(1)).unwrap();
        let _second = admission.admit(&inside, ip(1)).unwrap();
        assert_eq!(admission.admit(&inside, ip(1)).unwrap_err(), Refused::PerIp);
        let _third = admission.admit(&inside, ip(2)).unwrap();
        assert_eq!(admission.admit(&inside, ip(3)).unwrap_err(), Refused::PerListener);
        let _fourth = admission.admit(&outside, ip(3)).unwrap();
        assert_eq!(admission.admit(&outside, ip(4)).unwrap_err(), Refused::Total);
        drop(first);
        admission.admit(&inside, ip(1)).unwrap();
        drop((_second, _third, _fourth));
        assert!(admission.counts.lock().unwrap().by_ip.is_empty());
    }

    #[test]
    fn an_address_counts_once_in_both_its_forms() {
        let admission = Admission::new(Limits { per_ip: 1, per_listener: 9, total: 9 });
        let listener: Arc<str> = "clients".into();
        let _held = admission.admit(&listener, ip(1)).unwrap();
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(admission.admit(&listener, mapped).unwrap_err(), Refused::PerIp);
    }
}
