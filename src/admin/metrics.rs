//! What a scrape computes from the node's present state. `docs/metrics.md` says what each is for.

use std::time::Duration;

use isobar_transport::Lane;

use super::exposition::{Exposition, Family, Kind};
use super::links::rtt_to;
use super::source::{Counts, Source};
use crate::metadata::image::Image;
use crate::model::TopicPartition;
use crate::replica::Role;
use crate::replica::core::Promise;
use crate::replica::host::Status;

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help }
}

pub const FAMILIES: &[Family] = &[
    gauge("isobar_node_info", "1; the labels say who this is."),
    gauge("isobar_ready", "1 while the node serves clients."),
    gauge(
        "isobar_node_gone_seconds",
        "How long most other datacenters have not heard of a node, as this one sees it; 0 while it is heard.",
    ),
    gauge(
        "isobar_automatic_failovers_held",
        "Partitions with a lost home whose policy is to move by themselves, and that cannot.",
    ),
    gauge("isobar_topology_generation", "Generation of the topology in this node's image."),
    gauge("isobar_wan_impaired", "1 where a development WAN is put under this node."),
    gauge(
        "isobar_exposure_seconds",
        "Age of the oldest acknowledged record that is not safe in the DC; 0 if all are.",
    ),
    gauge("isobar_exposure_records", "Acknowledged records that are not safe in the DC."),
    gauge("isobar_exposure_bytes", "Their bytes."),
    gauge(
        "isobar_at_stake_seconds",
        "Time between the oldest and the newest accepted record that no other DC has; +Inf while a new leader cannot know.",
    ),
    gauge("isobar_at_stake_records", "Accepted records that no other DC has."),
    gauge("isobar_at_stake_bytes", "Their bytes."),
    gauge("isobar_budget_seconds", "max_lag, where the topic has one."),
    gauge("isobar_budget_bytes", "max_lag_bytes, where the topic has one."),
    gauge("isobar_budget_records", "max_lag_records, where the topic has one."),
    gauge(
        "isobar_sync_degraded",
        "1 while acknowledgements of a sync topic may be lost with its home, as __meta has it on record; 0 while none is.",
    ),
    gauge("isobar_budget_breached", "1 while more is at stake than the exposure budget allows."),
    gauge(
        "isobar_replica_staleness_seconds",
        "Time since this replica last had all that its leader had acknowledged; +Inf if it never had.",
    ),
    gauge("isobar_raft_role", "1; the label says leader, follower or learner."),
    gauge("isobar_raft_term", "Raft term, which is Kafka's leader epoch."),
    gauge("isobar_raft_commit_index", "Last committed log index, as this replica knows."),
    gauge("isobar_raft_applied_index", "Last applied log index."),
    gauge("isobar_raft_last_index", "Last log index here."),
    counter("isobar_raft_elections_total", "Elections that replicas of this node won."),
    gauge(
        "isobar_quiet_replicas",
        "Replicas of this node that nobody uses: one beat for each pair of nodes stands for their heartbeats.",
    ),
    gauge("isobar_in_sync_replicas", "Size of the ISR."),
    gauge("isobar_replicas", "Replicas placed in the DC."),
    gauge("isobar_follower_lag_entries", "Log entries that the replica on the node lacks."),
    gauge("isobar_log_start_offset", "First offset that can be read."),
    gauge("isobar_log_end_offset", "Offset after the last record here."),
    gauge("isobar_high_watermark", "Offset after the last record that clients may see."),
    gauge("isobar_log_size_bytes", "Bytes of all segments."),
    gauge(
        "isobar_nearest_replica_seconds",
        "Round trip from this node to the nearest DC with a replica; 0 if its own has one.",
    ),
    counter("isobar_disk_commits_total", "Group commits."),
    counter("isobar_disk_files_synced_total", "Files synced in them."),
    counter("isobar_disk_appended_bytes_total", "Bytes written to segments."),
    counter("isobar_disk_commit_seconds_total", "Time spent in group commits."),
    counter("isobar_groups_dropped_total", "Groups of a frame that no replica here took."),
    counter("isobar_frames_malformed_total", "Frames from peers that could not be read."),
    counter("isobar_catch_up_ranges_total", "Ranges of entries that other nodes gave."),
    counter("isobar_catch_up_bytes_total", "Their bytes, on the bulk lane."),
    counter("isobar_catch_up_failures_total", "Ranges that did not come, or were refused."),
    counter("isobar_catch_up_served_bytes_total", "Bytes of ranges that this node gave others."),
    gauge("isobar_log_damaged", "Replicas that stay closed until their logs are mended."),
    counter("isobar_log_mended_total", "Damaged logs and segments that were mended."),
    gauge("isobar_link_connected", "1 while our connection of this lane to the peer is up."),
    gauge("isobar_link_via", "1; the label says which node control takes a hop through."),
    gauge("isobar_link_rtt_seconds", "Smoothed round trip, live or last known."),
    counter("isobar_link_lost_packets_total", "Packets that were sent and lost."),
    counter("isobar_link_sent_bytes_total", "UDP payload sent."),
    counter("isobar_link_received_bytes_total", "UDP payload received."),
    gauge("isobar_link_queue_bytes", "Bytes that wait here for the peer."),
    counter(
        "isobar_link_dropped_frames_total",
        "Frames refused by a full queue or lost with a connection.",
    ),
    gauge("isobar_wan_cut", "1 while the development WAN passes nothing this way."),
    counter("isobar_wan_bytes_total", "Bytes that came to the development WAN."),
    counter("isobar_wan_lost_packets_total", "Packets that it dropped, for whatever reason."),
];

/// Everything of [`FAMILIES`], as of now.
pub async fn scrape(source: &dyn Source) -> Exposition {
    let mut out = Exposition::new(FAMILIES);
    let statuses = source.statuses().await;
    let image = source.image();
    node(&mut out, source, image.as_deref());
    let quiet = statuses.iter().filter(|status| status.is_quiet).count();
    out.add("isobar_quiet_replicas", &[], quiet as f64);
    if let Some(image) = &image {
        for status in &statuses {
            replica(&mut out, source, image, status);
        }
        distances(&mut out, source, image);
    }
    counts(&mut out, &source.counts());
    peers(&mut out, source);
    wan(&mut out, source);
    out
}

fn node(out: &mut Exposition, source: &dyn Source, image: Option<&Image>) {
    let (id, dc) = (source.node().to_string(), source.dc().to_string());
    let labels = [("node", &*id), ("dc", &*dc), ("version", env!("CARGO_PKG_VERSION"))];
    out.add("isobar_node_info", &labels, 1.0);
    out.add("isobar_ready", &[], flag(source.missing().is_empty()));
    let generation = image.map_or(0, |image| image.topology_generation);
    out.add("isobar_topology_generation", &[], generation as f64);
    out.add("isobar_automatic_failovers_held", &[], source.held().len() as f64);
    let gone_for = source.gone_for();
    let topology = image.and_then(|image| image.topology.as_ref());
    for other in topology.iter().flat_map(|topology| topology.nodes()) {
        let gone = gone_for.get(&other.id).map_or(0.0, Duration::as_secs_f64);
        let peer = other.id.to_string();
        out.add("isobar_node_gone_seconds", &[("peer", &*peer), ("dc", other.dc.as_str())], gone);
    }
    out.add("isobar_wan_impaired", &[], flag(source.wan().is_some()));
}

fn replica(out: &mut Exposition, source: &dyn Source, image: &Image, status: &Status) {
    let at = status.partition;
    let topic = match image.topics.get(&at.topic) {
        Some(topic) => &*topic.name,
        None if at == TopicPartition::META => "__meta",
        // Deleted, and its replica is about to go.
        None => return,
    };
    let number = at.partition.to_string();
    let of = [("topic", topic), ("partition", &*number)];
    let with = |more: (&'static str, &str), out: &mut Exposition, name, value| {
        out.add(name, &[of[0], of[1], more], value);
    };
    let role = match status.progress.role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Learner => "learner",
    };
    with(("role", role), out, "isobar_raft_role", 1.0);
    let progress = status.progress;
    out.add("isobar_raft_term", &of, status.term.0 as f64);
    out.add("isobar_raft_commit_index", &of, status.committed.0 as f64);
    out.add("isobar_raft_applied_index", &of, status.applied.0 as f64);
    out.add("isobar_raft_last_index", &of, status.last.0 as f64);
    out.add("isobar_log_start_offset", &of, progress.log_start.0 as f64);
    out.add("isobar_log_end_offset", &of, progress.log_end.0 as f64);
    if progress.watermark_known {
        out.add("isobar_high_watermark", &of, progress.high_watermark.0 as f64);
    }
    if let Some(bytes) = source.log_bytes(at) {
        out.add("isobar_log_size_bytes", &of, bytes as f64);
    }
    if progress.role == Role::Leader {
        led(out, status, of);
    } else {
        let seconds = status.staleness.map_or(f64::INFINITY, |age| age.as_secs_f64());
        out.add("isobar_replica_staleness_seconds", &of, seconds);
    }
}

/// What only the leader knows.
fn led(out: &mut Exposition, status: &Status, of: [(&str, &str); 2]) {
    out.add("isobar_in_sync_replicas", &of, status.in_sync.len() as f64);
    let mut by_dc = std::collections::BTreeMap::<&str, usize>::new();
    for member in &status.members {
        let dc = member.dc.as_str();
        *by_dc.entry(dc).or_default() += 1;
        if let Some(matched) = member.matched {
            let node = member.node.to_string();
            let labels = [of[0], of[1], ("node", &*node), ("dc", dc)];
            let lag = status.last.0.saturating_sub(matched.0);
            out.add("isobar_follower_lag_entries", &labels, lag as f64);
        }
    }
    for (dc, replicas) in by_dc {
        out.add("isobar_replicas", &[of[0], of[1], ("dc", dc)], replicas as f64);
    }
    // `__meta` spans the DCs: its quorum is its safety, and no home of it can be lost.
    if status.partition == TopicPartition::META {
        return;
    }
    for (dc, exposure) in &status.exposure {
        let labels = [of[0], of[1], ("dc", dc.as_str())];
        out.add("isobar_exposure_seconds", &labels, exposure.age.as_secs_f64());
        out.add("isobar_exposure_records", &labels, exposure.records as f64);
        out.add("isobar_exposure_bytes", &labels, exposure.bytes as f64);
    }
    if let Some(promise) = status.promise {
        out.add("isobar_sync_degraded", &of, flag(promise != Promise::Sync));
    }
    at_stake(out, status, of);
}

pub(super) fn at_stake(out: &mut Exposition, status: &Status, of: [(&str, &str); 2]) {
    let Some(at_stake) = &status.at_stake else { return };
    let seconds = at_stake.is_known.then_some(at_stake.span.as_secs_f64());
    out.add("isobar_at_stake_seconds", &of, seconds.unwrap_or(f64::INFINITY));
    out.add("isobar_at_stake_records", &of, at_stake.records as f64);
    out.add("isobar_at_stake_bytes", &of, at_stake.bytes as f64);
    let budget = status.budget;
    if let Some(lag) = budget.lag {
        out.add("isobar_budget_seconds", &of, lag.as_secs_f64());
    }
    if let Some(bytes) = budget.bytes {
        out.add("isobar_budget_bytes", &of, bytes as f64);
    }
    if let Some(records) = budget.records {
        out.add("isobar_budget_records", &of, f64::from(records));
    }
    if !budget.is_none() {
        out.add("isobar_budget_breached", &of, flag(budget.is_passed_by(at_stake)));
    }
}

/// How far a consumer in this DC has to reach, per partition.
fn distances(out: &mut Exposition, source: &dyn Source, image: &Image) {
    let Some(topology) = &image.topology else { return };
    let (here, peers) = (source.dc(), source.peers());
    for topic in super::topics::by_name(image) {
        for (number, partition) in topic.partitions.iter().enumerate() {
            let dcs = partition.replicas.iter().filter_map(|r| topology.dc_of(r.node));
            let distance = |dc: &crate::model::DcName| {
                if *dc == here { Some(std::time::Duration::ZERO) } else { rtt_to(&peers, dc) }
            };
            if let Some(nearest) = dcs.filter_map(distance).min() {
                let number = number.to_string();
                let labels = [("topic", &*topic.name), ("partition", &*number)];
                out.add("isobar_nearest_replica_seconds", &labels, nearest.as_secs_f64());
            }
        }
    }
}

fn counts(out: &mut Exposition, counts: &Counts) {
    out.add("isobar_raft_elections_total", &[], counts.elections as f64);
    out.add("isobar_disk_commits_total", &[], counts.disk_commits as f64);
    out.add("isobar_disk_files_synced_total", &[], counts.disk_files_synced as f64);
    out.add("isobar_disk_appended_bytes_total", &[], counts.disk_appended_bytes as f64);
    out.add("isobar_disk_commit_seconds_total", &[], counts.disk_commit.as_secs_f64());
    out.add("isobar_groups_dropped_total", &[], counts.groups_dropped as f64);
    out.add("isobar_frames_malformed_total", &[], counts.frames_malformed as f64);
    out.add("isobar_catch_up_ranges_total", &[], counts.ranges_fetched as f64);
    out.add("isobar_catch_up_bytes_total", &[], counts.range_bytes_fetched as f64);
    out.add("isobar_catch_up_failures_total", &[], counts.ranges_failed as f64);
    out.add("isobar_catch_up_served_bytes_total", &[], counts.range_bytes_served as f64);
    out.add("isobar_log_damaged", &[], counts.damaged as f64);
    out.add("isobar_log_mended_total", &[], counts.mended as f64);
}

fn peers(out: &mut Exposition, source: &dyn Source) {
    for peer in source.peers() {
        let node = peer.node.to_string();
        let to = [("peer", &*node), ("dc", peer.dc.as_str()), ("lane", peer.lane.as_str())];
        out.add("isobar_link_connected", &to, flag(peer.connected));
        if let Some(rtt) = peer.rtt {
            out.add("isobar_link_rtt_seconds", &to, rtt.as_secs_f64());
        }
        out.add("isobar_link_lost_packets_total", &to, peer.lost_packets as f64);
        out.add("isobar_link_sent_bytes_total", &to, peer.sent_bytes as f64);
        out.add("isobar_link_received_bytes_total", &to, peer.received_bytes as f64);
        out.add("isobar_link_queue_bytes", &to, peer.queue_bytes as f64);
        out.add("isobar_link_dropped_frames_total", &to, peer.dropped_frames as f64);
        if let (Lane::Control, Some(via)) = (peer.lane, peer.via) {
            let via = via.to_string();
            out.add("isobar_link_via", &[to[0], to[1], ("via", &via)], 1.0);
        }
    }
}

/// What leaves this node's DC: each direction is told by the nodes of its sending end.
fn wan(out: &mut Exposition, source: &dyn Source) {
    let Some(wan) = source.wan() else { return };
    let here = source.dc();
    for state in wan.show().iter().filter(|state| state.from == here) {
        let way = [("from", state.from.as_str()), ("to", state.to.as_str())];
        let counters = state.counters;
        let lost = counters.lost + counters.queue_dropped + counters.cut_dropped;
        out.add("isobar_wan_cut", &way, flag(state.link.cut));
        out.add("isobar_wan_bytes_total", &way, counters.bytes as f64);
        out.add("isobar_wan_lost_packets_total", &way, lost as f64);
    }
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}
