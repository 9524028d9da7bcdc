//! Names of places. They live at the bottom of the house because everyone above speaks of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A node of the cluster, which to Kafka clients is a broker id.
///
/// 1 ..= `i32::MAX`: Kafka's broker ids are signed 32-bit, and 0 is left free to mean "none" in
/// wire messages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct NodeId(u32);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node id {0} is outside 1..=2147483647")]
pub struct NodeIdError(pub u64);

impl NodeId {
    pub fn new(id: u64) -> Result<Self, NodeIdError> {
        match u32::try_from(id) {
            Ok(id) if id >= 1 && id <= i32::MAX as u32 => Ok(Self(id)),
            _ => Err(NodeIdError(id)),
        }
    }

    pub fn as_u32(self) -> u32 {
        self.0
    }

    /// The Kafka broker id.
    pub fn as_i32(self) -> i32 {
        self.0 as i32
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// A datacenter's name: 1 to 32 characters of `a-z`, `0-9` and `-`, starting with a letter.
///
/// So that it fits a DNS label, a certificate's URI and a metric label without escaping.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct DcName(Arc<str>);

/// Longest DC name, in bytes. A DNS label may have 63; half of it leaves room for prefixes.
pub const DC_NAME_BYTES_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("datacenter name {0:?}: expected 1 to 32 of a-z, 0-9 and '-', starting with a letter")]
pub struct DcNameError(pub String);

impl DcName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DcName {
    type Err = DcNameError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let starts_with_letter = s.starts_with(|c: char| c.is_ascii_lowercase());
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if starts_with_letter && s.len() <= DC_NAME_BYTES_MAX && s.chars().all(allowed) {
            Ok(Self(s.into()))
        } else {
            Err(DcNameError(s.to_owned()))
        }
    }
}

impl fmt::Display for DcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DcName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_fits_a_kafka_broker_id() {
        assert!(NodeId::new(0).is_err());
        assert!(NodeId::new(1).is_ok());
        assert_eq!(NodeId::new(i32::MAX as u64).unwrap().as_i32(), i32::MAX);
        assert!(NodeId::new(i32::MAX as u64 + 1).is_err());
    }

    #[test]
    fn a_dc_name_fits_a_dns_label() {
        for good in ["fra", "us-east-1", "a"] {
            assert_eq!(good.parse::<DcName>().unwrap().as_str(), good);
        }
        for bad in ["", "1a", "Fra", "fra_1", "-a", &"a".repeat(33)] {
            assert!(bad.parse::<DcName>().is_err(), "{bad:?}");
        }
    }
}
