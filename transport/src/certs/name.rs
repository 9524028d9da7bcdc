//! The name in a certificate: `spiffe://<cluster>/dc/<dc>/node/<id>`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use isobar_topology::{DcName, NodeId};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Who a certificate says its holder is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerIdentity {
    pub cluster: Arc<str>,
    pub dc: DcName,
    pub node: NodeId,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("not an X.509 certificate: {0}")]
    NotACertificate(String),
    #[error("the certificate names {0} spiffe:// URIs, expected exactly one")]
    Count(usize),
    #[error("the certificate's name {0:?} is not spiffe://<cluster>/dc/<dc>/node/<id>")]
    Form(String),
}

impl PeerIdentity {
    pub fn new(cluster: &str, dc: DcName, node: NodeId) -> PeerIdentity {
        PeerIdentity { cluster: cluster.into(), dc, node }
    }

    /// The name in a certificate's subject alternative names.
    pub(crate) fn of_certificate(der: &[u8]) -> Result<PeerIdentity, NameError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| NameError::NotACertificate(error.to_string()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| NameError::NotACertificate(error.to_string()))?;
        let names = names.map(|extension| extension.value.general_names.as_slice());
        let uris: Vec<&str> = names
            .unwrap_or_default()
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with("spiffe://") => Some(*uri),
                _ => None,
            })
            .collect();
        match uris.as_slice() {
            [uri] => uri.parse(),
            _ => Err(NameError::Count(uris.len())),
        }
    }
}

impl FromStr for PeerIdentity {
    type Err = NameError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        parse(uri).ok_or_else(|| NameError::Form(uri.to_owned()))
    }
}

fn parse(uri: &str) -> Option<PeerIdentity> {
    let mut parts = uri.strip_prefix("spiffe://")?.split('/');
    let cluster = parts.next().filter(|cluster| !cluster.is_empty())?;
    let dc = (parts.next()? == "dc").then(|| parts.next())??.parse().ok()?;
    let digits = (parts.next()? == "node").then(|| parts.next())??;
    // One spelling a node: no sign, no leading zero, nothing behind it.
    let node = NodeId::new(digits.parse().ok()?).ok()?;
    (node.to_string() == digits && parts.next().is_none())
        .then(|| PeerIdentity::new(cluster, dc, node))
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/dc/{}/node/{}", self.cluster, self.dc, self.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back() {
        let name: PeerIdentity = "spiffe://orders/dc/fra/node/3".parse().unwrap();
        assert_eq!(
            (name.cluster.as_ref(), name.dc.as_str(), name.node.as_u32()),
            ("orders", "fra", 3)
        );
        assert_eq!(name.to_string(), "spiffe://orders/dc/fra/node/3");
    }

    #[test]
    fn nothing_but_the_one_form_is_a_name() {
        for bad in [
            "",
            "spiffe://",
            "spiffe://orders",
            "spiffe:///dc/fra/node/3",
            "spiffe://orders/dc/fra",
            "spiffe://orders/dc/FRA/node/3",
            "spiffe://orders/dc/fra/node/0",
            "spiffe://orders/dc/fra/node/03",
            "spiffe://orders/dc/fra/node/+3",
            "spiffe://orders/dc/fra/node/3/",
            "spiffe://orders/dc/fra/node/3/x",
            "spiffe://orders/node/3/dc/fra",
            "https://orders/dc/fra/node/3",
        ] {
            assert_eq!(bad.parse::<PeerIdentity>(), Err(NameError::Form(bad.to_owned())));
        }
    }

    #[test]
    fn garbage_is_not_a_certificate() {
        assert!(PeerIdentity::of_certificate(b"garbage").is_err());
    }
}
