//! Reads the tables of the file, one function each, into a [`Draft`].

use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::reader::{Reader, Section};
use super::{At, Draft, DraftDc, DraftLink, DraftNode, VERSION, address, policies};
use crate::options;
use crate::timing::{ELECTION_TIMEOUT, ELECTION_TIMEOUT_MAX, ELECTION_TIMEOUT_MIN};
use crate::topology::{
    Address, Cluster, ClusterName, Compression, DEFAULT_BANDWIDTH_BITS, HostPort, Listener,
    ListenerName, NodeTls, ordered,
};
use crate::unit::{self, Bandwidth};
use crate::{DcName, NodeId};

pub(super) fn draft<'d>(reader: &mut Reader, document: &'d DeTable<'d>) -> Draft {
    let root = reader.table("", document, options::ROOT);
    version(reader, &root);
    let mut draft = Draft::default();
    if let Some(value) = reader.required(&root, "cluster") {
        draft.cluster = cluster(reader, value);
    }
    if let Some(value) = reader.required(&root, "dc") {
        let sections = reader.sections("dc", value, options::DC);
        draft.dcs = sections.iter().map(|section| dc(reader, section)).collect();
    }
    if let Some(value) = reader.required(&root, "node") {
        let sections = reader.sections("node", value, options::NODE);
        draft.nodes = sections.iter().map(|section| node(reader, section)).collect();
    }
    if let Some(value) = root.value("link") {
        let sections = reader.sections("link", value, options::LINK);
        draft.links = sections.iter().map(|section| link(reader, section)).collect();
    }
    if let Some(value) = root.value("policy") {
        draft.policies = policies::read(reader, value);
    }
    draft
}

fn version(reader: &mut Reader, root: &Section<'_>) {
    let expected = format!("{VERSION}: the only version of this format that this isobar knows");
    if let Some(found) = reader.integer(root, "version", &expected)
        && found != VERSION
    {
        reader.error("version", found.to_string(), expected);
    }
}

fn cluster<'d>(reader: &mut Reader, value: &'d DeValue<'d>) -> Option<Cluster> {
    let section = reader.section("cluster", value, options::CLUSTER)?;
    let name = reader.parsed(&section, "name", |text| {
        ClusterName::new(text).ok_or_else(|| ClusterName::EXPECTED.to_owned())
    });
    let ca = match section.value("tls") {
        Some(value) => {
            let tls = reader.section("cluster.tls", value, options::CLUSTER_TLS)?;
            path_or(reader, &tls, "ca", options::DEFAULT_CA.into())
        }
        None => Some(options::DEFAULT_CA.into()),
    };
    let election_timeout = reader
        .parsed_or(&section, "election_timeout", |text| {
            let range = ELECTION_TIMEOUT_MIN..=ELECTION_TIMEOUT_MAX;
            let parsed = unit::parse_duration(text).ok().filter(|timeout| range.contains(timeout));
            parsed.ok_or_else(|| "a duration from 500ms to 60s, as in \"2s\"".to_owned())
        })
        .unwrap_or(Some(ELECTION_TIMEOUT));
    Some(Cluster { name: name?, ca: ca?, election_timeout: election_timeout? })
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() || text.contains('\0') {
        return Err("the path of a file".to_owned());
    }
    Ok(PathBuf::from(text))
}

fn path_or(
    reader: &mut Reader,
    section: &Section<'_>,
    name: &str,
    default: PathBuf,
) -> Option<PathBuf> {
    reader.parsed_or(section, name, path).unwrap_or(Some(default))
}

fn dc(reader: &mut Reader, section: &Section<'_>) -> At<DraftDc> {
    let name = reader.parsed(section, "name", dc_name);
    let witness = reader.bool_or(section, "witness", false);
    At { path: section.path.clone(), value: DraftDc { name, witness } }
}

fn dc_name(text: &str) -> Result<DcName, String> {
    const EXPECTED: &str = "1 to 32 of a-z, 0-9 and '-', starting with a letter";
    if text == "spread" {
        return Err("another name: home = \"spread\" means something else".to_owned());
    }
    text.parse().map_err(|_| EXPECTED.to_owned())
}

fn node(reader: &mut Reader, section: &Section<'_>) -> At<DraftNode> {
    const ID_EXPECTED: &str = "a whole number from 1 to 2147483647";
    let id = reader.integer(section, "id", ID_EXPECTED).and_then(|number| {
        let id = u64::try_from(number).ok().and_then(|number| NodeId::new(number).ok());
        if id.is_none() {
            reader.error(&section.key("id"), number.to_string(), ID_EXPECTED);
        }
        id
    });
    let dc = reader.parsed(section, "dc", dc_name);
    let peer = match reader.required(section, "peer") {
        Some(value) => address_of(reader, section, "peer", value),
        None => None,
    };
    let admin = match section.value("admin") {
        Some(value) => address_of(reader, section, "admin", value),
        None => Some(default_admin()),
    };
    let value = DraftNode {
        id,
        dc,
        peer,
        data_dirs: data_dirs(reader, section),
        listeners: listeners(reader, section),
        admin,
        tls: node_tls(reader, section, id),
    };
    At { path: section.path.clone(), value }
}

fn address_of<'d>(
    reader: &mut Reader,
    section: &Section<'d>,
    name: &str,
    value: &'d DeValue<'d>,
) -> Option<Address> {
    let table = reader.section(&section.key(name), value, options::ADDRESS)?;
    address::read(reader, &table)
}

fn default_admin() -> Address {
    let bind: std::net::SocketAddr =
        options::DEFAULT_ADMIN.parse().expect("a constant that the manual shows");
    let advertised = HostPort { host: bind.ip().to_string().into(), port: bind.port() };
    Address { bind, advertised }
}

fn data_dirs(reader: &mut Reader, section: &Section<'_>) -> Option<Vec<PathBuf>> {
    const EXPECTED: &str = "a list of absolute paths, as in [\"/var/lib/isobar\"]";
    let texts = reader.texts(section, "data_dirs", EXPECTED)?;
    let key = section.key("data_dirs");
    let mut dirs: Vec<PathBuf> = Vec::new();
    for text in &texts {
        let dir = PathBuf::from(text);
        if !dir.is_absolute() || text.contains('\0') {
            reader.error(&key, format!("{text:?}"), EXPECTED);
        } else if dirs.contains(&dir) {
            reader.error(&key, format!("{text:?} twice"), "each directory once");
        }
        dirs.push(dir);
    }
    if dirs.is_empty() {
        reader.error(&key, "an empty list", EXPECTED);
    }
    Some(dirs)
}

fn listeners(reader: &mut Reader, section: &Section<'_>) -> Vec<Option<Listener>> {
    // Whether there must be one depends on the DC, which the check knows.
    let Some(value) = section.value("listener") else { return Vec::new() };
    let sections = reader.sections(&section.key("listener"), value, options::LISTENER);
    sections.iter().map(|section| listener(reader, section)).collect()
}

fn listener(reader: &mut Reader, section: &Section<'_>) -> Option<Listener> {
    let name = reader.parsed(section, "name", |text| {
        ListenerName::new(text).ok_or_else(|| ListenerName::EXPECTED.to_owned())
    });
    let address = address::read(reader, section);
    Some(Listener { name: name?, address: address? })
}

fn node_tls(reader: &mut Reader, section: &Section<'_>, id: Option<NodeId>) -> Option<NodeTls> {
    let named = |ending: &str| {
        PathBuf::from(id.map_or_else(String::new, |id| format!("certs/node-{id}{ending}")))
    };
    let Some(value) = section.value("tls") else {
        return Some(NodeTls { cert: named(".pem"), key: named("-key.pem") });
    };
    let tls = reader.section(&section.key("tls"), value, options::NODE_TLS)?;
    let cert = path_or(reader, &tls, "cert", named(".pem"));
    let key = path_or(reader, &tls, "key", named("-key.pem"));
    Some(NodeTls { cert: cert?, key: key? })
}

/// No path on Earth is longer; and Raft waits ten of them before it elects.
const RTT_MAX: Duration = Duration::from_secs(10);

fn link(reader: &mut Reader, section: &Section<'_>) -> At<DraftLink> {
    let rtt = reader.parsed(section, "rtt", |text| match unit::parse_duration(text) {
        Ok(rtt) if rtt.is_zero() || rtt > RTT_MAX => Err("more than 0s and at most 10s".to_owned()),
        Ok(rtt) => Ok(rtt),
        Err(error) => Err(error.expected.to_owned()),
    });
    let bandwidth = reader.parsed_or(section, "bandwidth", |text| {
        text.parse::<Bandwidth>().map_err(|error| error.expected.to_owned())
    });
    let default_bandwidth = Bandwidth::from_bits_per_second(DEFAULT_BANDWIDTH_BITS);
    let compression = reader.parsed_or(section, "compression", |t| word(t, Compression::WORDS));
    let value = DraftLink {
        between: between(reader, section),
        rtt,
        bandwidth: bandwidth.unwrap_or(default_bandwidth),
        compression: compression.unwrap_or(Some(Compression::None)),
    };
    At { path: section.path.clone(), value }
}

fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let known = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    known.ok_or_else(|| {
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        quoted.join(" or ")
    })
}

fn between(reader: &mut Reader, section: &Section<'_>) -> Option<(DcName, DcName)> {
    const EXPECTED: &str = "two different DCs, as in [\"fra\", \"iad\"]";
    let texts = reader.texts(section, "between", EXPECTED)?;
    let names: Vec<DcName> = texts.iter().filter_map(|text| dc_name(text).ok()).collect();
    match names.as_slice() {
        [a, b] if a != b && texts.len() == 2 => Some(ordered(a, b)),
        _ => {
            reader.error(&section.key("between"), format!("{texts:?}"), EXPECTED);
            None
        }
    }
}
