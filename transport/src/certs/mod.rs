//! Who a node is: certificates that name cluster, DC and node, made, loaded and checked.
//!
//! ```text
//!  DIR/ca.pem  DIR/ca-key.pem        one authority per cluster   (Authority)
//!  DIR/node-3.pem  DIR/node-3-key.pem                            (Authority::issue)
//!        URI SAN: spiffe://orders/dc/fra/node/3                  (PeerIdentity)
//! ```
//!
//! A running node reads `ca.pem`, its own certificate and its own key ([`Identity`]); `ca-key.pem`
//! belongs on the operator's machine. `ca.pem` may hold several authorities: to replace one, trust both,
//! replace the nodes' certificates, then trust the new one only. Files are polled; what does not load
//! is reported and the identity in use stays.
//!
//! Missing on purpose: revocation lists (remove the node from the topology instead: a certificate of an
//! unknown node is refused), intermediate authorities per DC (a chain in `node-N.pem` is accepted already).

mod authority;
mod identity;
mod name;
mod tls;

use std::path::PathBuf;

use isobar_topology::{DcName, NodeId};

pub use authority::{Authority, Validity};
pub use identity::{Files, Identity};
pub use name::{NameError, PeerIdentity};
pub(crate) use tls::{Accept, Refusal, client_config, peer_identity, server_config};

/// ALPN protocol. The version of what is spoken inside is negotiated in the hello.
pub const ALPN: &[u8] = b"isobar/1";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: already there; an authority is not replaced silently")]
    Exists { path: PathBuf },
    #[error("{path}: holds no {what} in PEM form")]
    Empty { path: PathBuf, what: &'static str },
    #[error("{path}: not a valid {what}: {detail}")]
    Invalid { path: PathBuf, what: &'static str, detail: String },
    #[error("{path}: expired at {at}")]
    Expired { path: PathBuf, at: String },
    #[error("{path}: not valid before {at}")]
    NotYetValid { path: PathBuf, at: String },
    #[error("{path}: {source}")]
    Name { path: PathBuf, source: NameError },
    #[error("{path}: belongs to cluster {found:?}, this one is {expected:?}")]
    WrongCluster { path: PathBuf, found: String, expected: String },
    #[error("{path}: belongs to node {found}, this is node {expected}")]
    WrongNode { path: PathBuf, found: NodeId, expected: NodeId },
    #[error("{path}: belongs to datacenter {found}, this node is in {expected}")]
    WrongDc { path: PathBuf, found: DcName, expected: DcName },
    #[error("{key}: is not the private key of {cert}")]
    KeyMismatch { key: PathBuf, cert: PathBuf },
    #[error("{cert}: not signed by any authority in {ca}: {detail}")]
    Untrusted { cert: PathBuf, ca: PathBuf, detail: String },
    #[error("TLS settings: {0}")]
    Tls(rustls::Error),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}
