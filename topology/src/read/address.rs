//! `{ bind, advertised }`, and which of them get into each other's way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::reader::{Reader, Section, join};
use super::{At, Draft};
use crate::topology::{Address, HostPort};

const BIND_EXPECTED: &str =
    "IP:PORT with a port of 1 to 65535, as in \"0.0.0.0:9092\" or \"[::]:9092\"";
const ADVERTISED_EXPECTED: &str =
    "HOST:PORT with a port of 1 to 65535, as in \"kafka-1.example.com:9092\"";
/// RFC 1035 §2.3.4.
const HOST_BYTES_MAX: usize = 253;

/// Reads the two keys out of a table that has them.
pub(super) fn read(reader: &mut Reader, section: &Section<'_>) -> Option<Address> {
    let bind = reader.parsed(section, "bind", bind);
    let advertised = reader.parsed_or(section, "advertised", advertised);
    match (bind, advertised) {
        (Some(bind), Some(advertised)) => Some(Address { bind, advertised: advertised? }),
        (Some(bind), None) if bind.ip().is_unspecified() => {
            let expected = format!(
                "the HOST:PORT that others connect to: {bind} is every interface of this machine"
            );
            reader.absent(&section.key("advertised"), expected);
            None
        }
        (Some(bind), None) => {
            let advertised = HostPort { host: bind.ip().to_string().into(), port: bind.port() };
            Some(Address { bind, advertised })
        }
        (None, _) => None,
    }
}

fn bind(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| BIND_EXPECTED.to_owned())?;
    if address.port() == 0 { Err(BIND_EXPECTED.to_owned()) } else { Ok(address) }
}

fn advertised(text: &str) -> Result<HostPort, String> {
    let refused = || ADVERTISED_EXPECTED.to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
    let port: u16 = port.parse().map_err(|_| refused())?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().map_err(|_| refused())?.to_string(),
        None => host.to_owned(),
    };
    let is_ip = host.parse::<IpAddr>();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let is_name = !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.chars().all(allowed);
    let everywhere = is_ip.as_ref().is_ok_and(IpAddr::is_unspecified);
    if port == 0 || everywhere || !(is_ip.is_ok() || is_name) {
        return Err(refused());
    }
    Ok(HostPort { host: Arc::from(host), port })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// UDP; the others are TCP.
    Peer,
    Admin,
    Kafka,
}

/// A place where somebody listens.
struct Bound<'a> {
    path: String,
    node: usize,
    /// Where others reach the node, if that is its own port and not one that something maps to it;
    /// then the host is the machine, and not one with containers behind it.
    peer: Option<&'a HostPort>,
    role: Role,
    address: &'a Address,
}

impl Bound<'_> {
    /// Two nodes that advertise one host, each its own port, share a machine. The same port, too,
    /// is a mistake in that address, and says nothing about the others.
    fn same_machine(&self, other: &Self) -> bool {
        let shared = |a: &HostPort, b: &HostPort| a.host == b.host && a.port != b.port;
        let peers = self.peer.zip(other.peer);
        self.node == other.node || peers.is_some_and(|(a, b)| shared(a, b))
    }

    fn binds_over(&self, other: &Self) -> bool {
        let (a, b) = (self.address.bind, other.address.bind);
        let same_protocol = (self.role == Role::Peer) == (other.role == Role::Peer);
        let overlap = if self.same_machine(other) { overlap(a, b) } else { same_interface(a, b) };
        same_protocol && overlap
    }

    /// An admin address on loopback is for its own machine, of which there are several.
    fn leads_to(&self, other: &Self) -> bool {
        let local = self.role == Role::Admin && self.node != other.node && loopback(self.address);
        let same_protocol = (self.role == Role::Peer) == (other.role == Role::Peer);
        same_protocol && self.address.advertised == other.address.advertised && !local
    }
}

/// Reports, once for each, addresses that two would listen on, or that two would be reached at.
pub(super) fn check_overlaps(reader: &mut Reader, draft: &Draft) {
    let bound: Vec<Bound<'_>> = draft.nodes.iter().enumerate().flat_map(bound_by).collect();
    for (i, one) in bound.iter().enumerate() {
        for other in &bound[..i] {
            let expected = "an address of its own";
            if one.binds_over(other) {
                let found = format!("{}, where {} listens, too", one.address.bind, other.path);
                reader.error(&join(&one.path, "bind"), found, expected);
                break;
            } else if one.leads_to(other) {
                let advertised = &one.address.advertised;
                let found = format!("{advertised}, which leads to {}, too", other.path);
                reader.error(&join(&one.path, "advertised"), found, expected);
                break;
            }
        }
    }
}

fn bound_by<'a>((index, node): (usize, &'a At<super::DraftNode>)) -> Vec<Bound<'a>> {
    let peer = node.value.peer.as_ref();
    let own_port = |peer: &&Address| peer.bind.port() == peer.advertised.port;
    let direct = peer.filter(own_port).map(|peer| &peer.advertised);
    let bound =
        |path: String, role, address| Bound { path, node: index, peer: direct, role, address };
    let mut out: Vec<Bound<'a>> = Vec::new();
    out.extend(peer.map(|peer| bound(join(&node.path, "peer"), Role::Peer, peer)));
    let admin = node.value.admin.as_ref();
    out.extend(admin.map(|admin| bound(join(&node.path, "admin"), Role::Admin, admin)));
    for (i, listener) in node.value.listeners.iter().enumerate() {
        let path = format!("{}.listener[{i}]", node.path);
        out.extend(listener.as_ref().map(|l| bound(path, Role::Kafka, &l.address)));
    }
    out
}

/// On one machine: the same port, and the same interface or every interface.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let every = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && (a.ip() == b.ip() || every)
}

/// The same address of the network, whatever the machines are called.
fn same_interface(a: SocketAddr, b: SocketAddr) -> bool {
    a == b && !a.ip().is_unspecified() && !a.ip().is_loopback()
}

/// Loopback of another machine is another address.
fn loopback(address: &Address) -> bool {
    &*address.advertised.host == "localhost"
        || address.advertised.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
