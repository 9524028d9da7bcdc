//! The topology of `isobar dev`: three DCs, nine nodes, one machine.

use std::fmt::Write;

/// Nodes of the built-in topology.
pub const NODES: usize = 9;
/// Node n's Kafka listener is at this port + n − 1, unless told otherwise.
pub const KAFKA_PORT: u16 = 9092;
/// Node n's admin listener is at this port + n − 1, unless told otherwise.
pub const ADMIN_PORT: u16 = 9640;
/// The name of the one listener that each node has.
pub const LISTENER: &str = "clients";

const DCS: [&str; 3] = ["fra", "iad", "sin"];
const LINKS: [(&str, &str, &str); 3] =
    [("fra", "iad", "90ms"), ("fra", "sin", "160ms"), ("iad", "sin", "220ms")];

/// A port for each node, node 1 first.
pub type Ports = [u16; NODES];

/// Nine ports in a row do not fit above this one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("port {first}: expected 1 to {most}, so that {NODES} ports in a row exist", most = u16::MAX - NODES as u16 + 1)]
pub struct PortError {
    pub first: u16,
}

/// `first`, `first + 1`, …
pub fn consecutive(first: u16) -> Result<Ports, PortError> {
    let fits = first > 0 && first.checked_add(NODES as u16 - 1).is_some();
    if !fits {
        return Err(PortError { first });
    }
    Ok(std::array::from_fn(|i| first + i as u16))
}

/// What differs from one dev cluster to the next.
#[derive(Debug, Clone)]
pub struct Spec<'a> {
    pub kafka_ports: Ports,
    pub admin_ports: Ports,
    /// UDP.
    pub peer_ports: Ports,
    /// Absolute; node n keeps its data in `DIR/node-n`, the certificates are in `DIR/certs`.
    pub data_dir: &'a str,
}

/// The text of the built-in topology: what a user would have written, to be parsed like theirs.
pub fn text(spec: &Spec<'_>) -> String {
    let mut out = String::from(
        "# The topology of `isobar dev`: three datacenters in one process.\nversion = 1\n\n[cluster]\nname = \"dev\"\n\n",
    );
    let dir = spec.data_dir.trim_end_matches('/');
    let ca = quoted(&format!("{dir}/certs/ca.pem"));
    // Writing to a String cannot fail.
    let _ = write!(out, "[cluster.tls]\nca = {ca}\n");
    for dc in DCS {
        let _ = write!(out, "\n[[dc]]\nname = \"{dc}\"\n");
    }
    for i in 0..NODES {
        node(&mut out, spec, dir, i);
    }
    for (a, b, rtt) in LINKS {
        let _ = write!(
            out,
            "\n[[link]]\nbetween = [\"{a}\", \"{b}\"]\nrtt = \"{rtt}\"\nbandwidth = \"1Gbit\"\n"
        );
    }
    out.push_str(POLICIES);
    out
}

/// As the issue asks: async by default; a topic becomes sync by its own config.
const POLICIES: &str = "
[policy.default]
home = \"fra\"
replicas = { fra = 3, iad = 3, sin = 3 }
replication = \"async\"

[policy.internal]
home = \"fra\"
replicas = { fra = 3, iad = 3, sin = 3 }
replication = \"async\"
flush = \"quorum\"
";

fn node(out: &mut String, spec: &Spec<'_>, dir: &str, i: usize) {
    let id = i + 1;
    let dc = DCS[i / (NODES / DCS.len())];
    let (peer, admin, kafka) = (spec.peer_ports[i], spec.admin_ports[i], spec.kafka_ports[i]);
    let data = quoted(&format!("{dir}/node-{id}"));
    let cert = quoted(&format!("{dir}/certs/node-{id}.pem"));
    let key = quoted(&format!("{dir}/certs/node-{id}-key.pem"));
    let _ = write!(
        out,
        "
[[node]]
id = {id}
dc = \"{dc}\"
peer = {{ bind = \"127.0.0.1:{peer}\" }}
admin = {{ bind = \"127.0.0.1:{admin}\" }}
data_dirs = [{data}]
tls = {{ cert = {cert}, key = {key} }}

[[node.listener]]
name = \"{LISTENER}\"
bind = \"127.0.0.1:{kafka}\"
"
    );
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topology;

    pub(crate) fn topology() -> Topology {
        let spec = Spec {
            kafka_ports: consecutive(KAFKA_PORT).unwrap(),
            admin_ports: consecutive(ADMIN_PORT).unwrap(),
            peer_ports: consecutive(7400).unwrap(),
            data_dir: "/tmp/a \"quoted\" \\ dir",
        };
        let (topology, warnings) = Topology::parse(&text(&spec)).unwrap_or_else(|p| panic!("{p}"));
        assert_eq!(warnings, []);
        topology
    }

    #[test]
    fn the_built_in_topology_is_one_that_a_user_could_have_written() {
        let topology = topology();
        assert_eq!(topology.nodes().count(), NODES);
        let node = topology.node(crate::NodeId::new(4).unwrap()).unwrap();
        assert_eq!(node.dc.as_str(), "iad");
        assert_eq!(node.listeners[0].address.advertised.to_string(), "127.0.0.1:9095");
        assert_eq!(
            node.data_dirs,
            ["/tmp/a \"quoted\" \\ dir/node-4".into()] as [std::path::PathBuf; 1]
        );
        let rtt =
            |a: &str, b: &str| topology.rtt(&a.parse().unwrap(), &b.parse().unwrap()).unwrap();
        assert_eq!(rtt("fra", "iad").as_millis(), 90);
        assert_eq!(rtt("sin", "iad").as_millis(), 220);
        assert_eq!(rtt("sin", "fra").as_millis(), 160);
    }

    #[test]
    fn ports_that_do_not_fit_are_refused() {
        assert!(consecutive(0).is_err());
        assert!(consecutive(65528).is_err());
        assert_eq!(consecutive(65527).unwrap()[8], 65535);
    }
}
