//! Who is asking. Every handler gets a session and asks it before it acts.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::wire::metadata::NO_OPERATIONS;

/// Longest client id that is kept, in bytes; the rest is cut. It goes into logs and, later, quota
/// keys; Kafka's own tools stay below 100.
pub const CLIENT_ID_BYTES_MAX: usize = 256;

/// Whom the connection belongs to, as Kafka writes it: `User:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub name: Arc<str>,
}

impl Principal {
    /// Everyone, as long as listeners authenticate nobody.
    pub fn anonymous() -> Self {
        Self { name: "ANONYMOUS".into() }
    }
}

/// What a request wants to do (Kafka's ACL operations).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Create,
    Delete,
    Alter,
    Describe,
    DescribeConfigs,
    AlterConfigs,
    IdempotentWrite,
    /// What brokers ask of each other in Kafka; nothing here asks for it.
    ClusterAction,
}

impl Operation {
    /// The bit of Kafka's `AclOperation` in a set of them.
    const fn bit(self) -> i32 {
        1 << match self {
            Self::Read => 3,
            Self::Write => 4,
            Self::Create => 5,
            Self::Delete => 6,
            Self::Alter => 7,
            Self::Describe => 8,
            Self::ClusterAction => 9,
            Self::DescribeConfigs => 10,
            Self::AlterConfigs => 11,
            Self::IdempotentWrite => 12,
        }
    }
}

/// What a request wants to do it to (Kafka's ACL resources).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    Cluster,
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
}

impl Resource<'_> {
    /// What can be done to one of its kind, as Kafka has it.
    const fn operations(self) -> &'static [Operation] {
        use Operation::*;
        match self {
            Self::Cluster => &[
                Create,
                Alter,
                Describe,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
            ],
            Self::Topic(_) => {
                &[Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs]
            }
            Self::Group(_) => &[Read, Delete, Describe],
            Self::TransactionalId(_) => &[Write, Describe],
        }
    }
}

/// One connection's identity, and the client id of its latest request.
#[derive(Debug, Clone)]
pub struct Session {
    pub principal: Principal,
    /// Name of the listener that the connection came in by; answers name endpoints of the same.
    pub listener: Arc<str>,
    pub client_id: Option<Arc<str>>,
    pub peer: SocketAddr,
    /// One fetch of a connection reads at a time: answers leave in order, so a second one could
    /// only pile up memory behind the first.
    pub fetch_turn: Arc<Semaphore>,
    /// Changes whenever the connection brings a request.
    requests: Arc<watch::Sender<()>>,
}

impl Session {
    pub fn new(listener: Arc<str>, peer: SocketAddr) -> Self {
        Self {
            principal: Principal::anonymous(),
            listener,
            client_id: None,
            peer,
            fetch_turn: Arc::new(Semaphore::new(1)),
            requests: Arc::default(),
        }
    }

    /// The connection has brought a request; called before it is begun.
    pub fn request_came(&self) {
        self.requests.send_replace(());
    }

    /// Done once the connection brings a request after this call. Answers leave in order, so whoever
    /// holds one back should end then.
    pub fn next_request(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut requests = self.requests.subscribe();
        async move {
            // An end of the connection drops this future with its request.
            let _ = requests.changed().await;
        }
    }

    /// The same session under the client id of the next request.
    pub fn with_client_id(&self, client_id: Option<&str>) -> Self {
        let cut = |id: &str| {
            let end =
                (0..=CLIENT_ID_BYTES_MAX.min(id.len())).rev().find(|&i| id.is_char_boundary(i));
            Arc::from(&id[..end.unwrap_or(0)])
        };
        Self { client_id: client_id.map(cut), ..self.clone() }
    }

    /// Whether the principal may do that. Allows everything until there are ACLs; every handler
    /// asks already, so that ACLs will be one change here.
    pub fn authorize(&self, _operation: Operation, _resource: Resource<'_>) -> bool {
        true
    }

    /// What this session may do to it, as a set of Kafka's `AclOperation` codes (KIP-430), if the request asks.
    pub fn authorized_operations(&self, asks: bool, resource: Resource<'_>) -> i32 {
        if !asks {
            return NO_OPERATIONS;
        }
        let may = resource.operations().iter().filter(|one| self.authorize(**one, resource));
        may.fold(0, |all, one| all | one.bit())
    }

    /// How long the client should pause for having moved `bytes`: none until there are quotas.
    pub fn quota(&self, _bytes: usize) -> Duration {
        Duration::ZERO
    }

    /// [`Session::quota`] as responses carry it.
    pub fn throttle_time_ms(&self, bytes: usize) -> i32 {
        i32::try_from(self.quota(bytes).as_millis()).unwrap_or(i32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_client_id_is_cut_at_a_character() {
        let session = Session::new("clients".into(), ([127, 0, 0, 1], 1).into());
        let long = "ü".repeat(CLIENT_ID_BYTES_MAX);
        let cut = session.with_client_id(Some(&long)).client_id.unwrap();
        assert_eq!(cut.len(), CLIENT_ID_BYTES_MAX);
        let odd = format!("a{long}");
        assert_eq!(session.with_client_id(Some(&odd)).client_id.unwrap().len(), 255);
        assert_eq!(session.with_client_id(Some("")).client_id.as_deref(), Some(""));
    }
}
