//! Leases between this node and the leader of `__meta`, over the RPC lane, which takes a hop
//! through a third DC where the direct path is cut.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use isobar_topology::timing::Lease;
use isobar_transport::{RpcError, Transport};
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;

use super::inbound::{Answer, method};
use crate::metadata::image::Image;
use crate::metadata::lease::{Granted, Grantor, Holder, Renew, Wait, left};
use crate::metadata::service;
use crate::model::{LeaderEpoch, NodeId, TopicPartition};
use crate::replica::driver::Orders;
use crate::replica::{self, Role};

/// The grantor of this node, made anew at each election that it wins.
pub struct Office {
    replicas: replica::Handle,
    metadata: service::Handle,
    lease: Lease,
    begun: Instant,
    granting: Mutex<Option<(LeaderEpoch, Grantor)>>,
}

impl Office {
    pub fn new(replicas: replica::Handle, metadata: service::Handle, lease: Lease) -> Arc<Self> {
        Arc::new(Self {
            replicas,
            metadata,
            lease,
            begun: Instant::now(),
            granting: Mutex::new(None),
        })
    }

    /// Grants, if this node leads `__meta`.
    pub fn grant(&self, from: NodeId, renew: Renew) -> Option<Granted> {
        // What is on its way to being decided counts in: it may be an activation.
        let as_of = self.replicas.view(TopicPartition::META)?.progress().log_end;
        self.with_grantor(|grantor, now| grantor.handle_renew(now, from, renew, as_of))?
    }

    /// With the grantor of the term that this node leads `__meta` in; `None` where it does not.
    fn with_grantor<T>(&self, ask: impl FnOnce(&mut Grantor, Duration) -> T) -> Option<T> {
        let progress = self.replicas.view(TopicPartition::META)?.progress();
        let mut granting = self.granting.lock().expect("no panic while held");
        if progress.role != Role::Leader || !progress.watermark_known {
            *granting = None;
            return None;
        }
        let (now, epoch) = (self.begun.elapsed(), progress.leader_epoch);
        if granting.as_ref().is_none_or(|(of, _)| *of != epoch) {
            *granting = Some((epoch, Grantor::elected(now, epoch, self.lease)));
        }
        let (_, grantor) = granting.as_mut().expect("set above");
        Some(ask(grantor, now))
    }

    /// Returns when the wait is over by any clock that runs within a tenth of this one; `false` where
    /// this node does not lead `__meta`: who does may have granted more. A leader that has granted
    /// nothing yet counts from its election what others may have.
    pub async fn leases_over(&self, mut wait: Wait) -> bool {
        loop {
            let over_in =
                self.with_grantor(|grantor, now| wait.over_at(grantor).saturating_sub(now));
            // A renewal may come in between: look again.
            match over_in {
                None => return false,
                Some(Duration::ZERO) => return true,
                Some(rest) => tokio::time::sleep(rest).await,
            }
        }
    }

    pub fn answer(self: &Arc<Self>) -> Answer {
        let office = Arc::clone(self);
        Box::new(move |from, body| {
            let office = Arc::clone(&office);
            Box::pin(async move {
                let renew = Renew::parse(&body).map_err(|_| RpcError::Malformed)?;
                let granted = office.grant(from, renew).ok_or_else(|| RpcError::Refused {
                    code: 1,
                    message: "not the leader of __meta".into(),
                })?;
                Ok(Bytes::from(granted.encode_to_vec()))
            })
        })
    }
}

/// Keeps this node's lease, and tells the replicas when it has run out and when it is back;
/// `held_once` turns true with the first grant.
pub async fn hold(
    node: NodeId,
    lease: Lease,
    office: Arc<Office>,
    transport: Transport,
    orders: Orders,
    held_once: watch::Sender<bool>,
) {
    let begun = Instant::now();
    let holder = Arc::new(Mutex::new(Holder::new(lease)));
    let mut was_valid = false;
    // Shorter than a renewal, so that an end is noticed soon after it.
    let mut look = tokio::time::interval(lease.renew_every / 4);
    loop {
        look.tick().await;
        let now = begun.elapsed();
        let leader = office.replicas.leaders().of(TopicPartition::META).map(|l| l.node);
        let (renew, valid) = {
            let mut holder = holder.lock().expect("no panic while held");
            let valid = holder.is_valid(now);
            if valid != was_valid {
                orders.lease(valid, left(&office.metadata.image()));
            }
            // Without a leader there is nobody to ask; with one it is asked at once.
            (leader.and_then(|_| holder.poll_renew(now)), valid)
        };
        if valid != was_valid {
            was_valid = valid;
            if valid {
                // Nobody may be left who wants to know.
                let _ = held_once.send(true);
                tracing::info!(%node, "lease held");
            } else {
                tracing::warn!(%node, "lease lost: async topics with on_isolation = fence stop acknowledging");
            }
        }
        let (Some(renew), Some(leader)) = (renew, leader) else { continue };
        let (holder, office, transport, orders) =
            (Arc::clone(&holder), Arc::clone(&office), transport.clone(), orders.clone());
        let mut images = office.metadata.watch();
        // A slow answer must not hold up the next renewal; each ends at its deadline.
        tokio::spawn(async move {
            let granted = if leader == node {
                office.grant(node, renew)
            } else {
                ask(&transport, leader, renew, lease.length).await
            };
            if let Some(granted) = granted {
                let is_known = |image: &Arc<Image>| granted.counts_at(image.next_offset);
                let known = tokio::time::timeout(lease.length, images.wait_for(is_known)).await;
                // Nothing is borrowed from here on.
                if !known.is_ok_and(|known| known.is_ok()) {
                    return;
                }
                // Orders leave while it is held, and look at the image then: none gives back what a newer
                // one has taken.
                let mut holder = holder.lock().expect("no panic while held");
                holder.handle_granted(granted);
                if holder.is_valid(begun.elapsed()) {
                    orders.lease(true, left(&office.metadata.image()));
                }
            }
        });
    }
}

async fn ask(
    transport: &Transport,
    leader: NodeId,
    renew: Renew,
    timeout: Duration,
) -> Option<Granted> {
    let body = Bytes::from(renew.encode_to_vec());
    let answer = transport.call(leader, method::RENEW, body, timeout).await.ok()?;
    Granted::parse(&answer).ok()
}
