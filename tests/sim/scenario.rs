//! What one seed runs: places, partitions, policies, and how unkind the world is. Each seed draws
//! its own mix, and leaves kinds of fault out altogether (swarm testing, Groce et al. 2012): a run
//! with everything in it hides what only a long quiet spell would show.

use std::time::Duration;

use isobar::log;
use isobar::model::{DcName, NodeId, ReplicaId, TopicId, TopicPartition, batch};
use isobar::replica::core::Budget;
use isobar::replica::core::config::{APPEND_BYTES_MAX, AckPolicy, Timing};
use isobar::replica::driver::Policy;
use isobar::replica::host::quiesce::IDLE_TICKS;
use isobar_topology::policy::OnLag;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::client::RECORDS_MAX;
use crate::{BEFORE_GROUPS, BEFORE_MEMBERS, BEFORE_QUIC, BEFORE_QUIET, BEFORE_ROT, FIXED};

/// What a record may need beside its value: its id, and Kafka's lengths and deltas.
const RECORD_BYTES: usize = 48;

pub const DCS: [&str; 3] = ["fra", "iad", "sin"];
pub const NODES_PER_DC: usize = 3;
pub const NODES: usize = DCS.len() * NODES_PER_DC;

/// Microseconds of simulated time.
pub type Micros = u64;
pub const MILLI: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// The wall clock at the start of every run.
const EPOCH_MS: i64 = 1_700_000_000_000;

pub fn wall_ms(now: Micros) -> i64 {
    EPOCH_MS + (now / MILLI) as i64
}

pub fn dc_of(node: usize) -> usize {
    node / NODES_PER_DC
}

pub fn node_id(node: usize) -> NodeId {
    NodeId::new(node as u64 + 1).expect("a small number")
}

pub fn node_of(id: NodeId) -> usize {
    id.as_u32() as usize - 1
}

pub fn dc_name(dc: usize) -> DcName {
    DCS[dc].parse().expect("a name")
}

fn full_disk(seed: u64) -> Option<Micros> {
    let mut rng = SmallRng::seed_from_u64(seed ^ FULL);
    let fills = !is_before_modes(seed) && rng.gen_bool(0.3);
    fills.then(|| [8, 20][rng.gen_range(0..2)] * SECOND)
}

/// How often a bit rots, if any does.
fn rot(seed: u64) -> Option<Micros> {
    let mut rng = SmallRng::seed_from_u64(seed ^ ROT);
    let every = [3, 10][rng.gen_range(0..2)] * SECOND;
    let asked = std::env::var_os("ISOBAR_SIM_ROT").is_some();
    let rots = asked || rng.gen_bool(0.3) || FIXED[BEFORE_ROT..BEFORE_MEMBERS].contains(&seed);
    (rots && !FIXED[..BEFORE_ROT].contains(&seed)).then_some(every)
}

/// What is kept free, of disks that may be full: below the first nothing is taken from producers, below
/// the second nothing from leaders.
pub const RESERVES: (u64, u64) = (128 << 10, 64 << 10);

/// One partition of the run.
#[derive(Debug, Clone)]
pub struct Partition {
    pub at: TopicPartition,
    pub home: usize,
    pub policy: Policy,
    /// Whether clients delete records from it.
    pub deletes: bool,
}

/// Mean pauses between faults of a kind; `None`: not in this run.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub power_cut: Option<Micros>,
    pub all_power_cut: Option<Micros>,
    pub kill: Option<Micros>,
    pub failed_sync: Option<Micros>,
    pub pause: Option<Micros>,
    pub cut_dc: Option<Micros>,
    pub cut_node: Option<Micros>,
    pub reconnect: Option<Micros>,
    pub lease: Option<Micros>,
    pub step_down: Option<Micros>,
    pub slow_disk: Option<Micros>,
    pub full_disk: Option<Micros>,
    pub rot: Option<Micros>,
}

/// Shares of the moments at which a fault follows (`aims`).
#[derive(Debug, Clone, Copy)]
pub struct Aims {
    pub at_vote: f64,
    pub at_election: f64,
}

/// So that aims are no consequence of what else a seed draws.
const AIMS: u64 = 0x4149_4d53;

/// So are moves of homes.
const MOVES: u64 = 0x4d4f_5645;

/// Seeds that were found before homes moved keep the history that they were found by.
fn is_of_old(seed: u64) -> bool {
    seed < 100 || (1_882_635_000_000_000..1_882_645_000_000_000).contains(&seed)
}

/// Five minutes for fresh seeds, and those that were found since runs became so long.
fn faulty_until(seed: u64, short: u64) -> u64 {
    if seed > 1_882_960_000_000_000 { 300 } else { short }
}

/// Operators that move homes, and a `__meta` whose leaders come and go.
#[derive(Debug, Clone, Copy)]
pub struct Moves {
    /// Between two things that an operator does, on average.
    pub every: Micros,
    /// Between two leaders of `__meta`.
    pub shift: Option<Micros>,
    /// Whether a datacenter may lose all of its disks, once.
    pub wipes: bool,
}

impl Moves {
    fn draw(seed: u64) -> Option<Self> {
        let mut rng = SmallRng::seed_from_u64(seed ^ MOVES);
        let moves = !is_of_old(seed) && rng.gen_bool(0.8);
        moves.then(|| Self {
            every: [2, 5, 10][rng.gen_range(0..3)] * SECOND,
            shift: [None, Some(4 * SECOND), Some(10 * SECOND)][rng.gen_range(0..3)],
            wipes: rng.gen_bool(0.3),
        })
    }
}

/// So are budgets, and what sync topics do where nothing gets through.
const BUDGETS: u64 = 0x4255_4447;
const MODES: u64 = 0x4d4f_4445;
const IDLE: u64 = 0x4944_4c45;
const GROUPS: u64 = 0x4752_4f55;
const FULL: u64 = 0x4655_4c4c;
const ROT: u64 = 0x524f_5420;

/// Seeds that were found before sync topics degraded and disks were full.
fn is_before_modes(seed: u64) -> bool {
    seed < 1_883_068_000_000_000
}

/// When sync topics of a run degrade, if they do.
fn degrade_after(seed: u64) -> Option<Duration> {
    let mut rng = SmallRng::seed_from_u64(seed ^ MODES);
    let degrades = !is_before_modes(seed) && rng.gen_bool(0.5);
    degrades.then(|| Duration::from_secs(rng.gen_range(1..=3)))
}

/// Cubic, which stands in for BBR there, makes of a long path with losses one of some ten kilobytes a second, and each
/// packet costs what a hundred frames cost without it.
const QUIC_VALUE_BYTES_MAX: usize = 1_000;
const QUIC_LOSS_MAX: f64 = 0.01;

/// One seed of thirty-two carries its frames over QUIC, which takes far longer.
pub fn is_quic(seed: u64) -> bool {
    let asked = std::env::var_os("ISOBAR_SIM_QUIC").is_some();
    (asked || seed % 32 == 7) && !FIXED[..BEFORE_QUIC].contains(&seed)
}

/// Whether groups commit what they have read: one partition is theirs.
fn has_groups(seed: u64) -> bool {
    let mut rng = SmallRng::seed_from_u64(seed ^ GROUPS);
    let asked = std::env::var_os("ISOBAR_SIM_GROUPS").is_some();
    let fixed = [&FIXED[BEFORE_GROUPS..BEFORE_ROT], &FIXED[BEFORE_MEMBERS..]];
    (asked || rng.gen_bool(0.3) || fixed.iter().any(|seeds| seeds.contains(&seed)))
        && !FIXED[..BEFORE_GROUPS].contains(&seed)
}

/// For how many ticks a leader must have had nothing to do to fall quiet. Short spells make one fall quiet between two
/// batches, and wake in the middle of everything.
fn idle_ticks(seed: u64) -> u64 {
    let mut rng = SmallRng::seed_from_u64(seed ^ IDLE);
    let drawn = [0, 3, 9, IDLE_TICKS, u64::MAX][rng.gen_range(0..5)];
    if FIXED[..BEFORE_QUIET].contains(&seed) { u64::MAX } else { drawn }
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub partitions: Vec<Partition>,
    /// One way, between DCs and within one.
    pub delay: [[Micros; 3]; 3],
    /// Largest addition to a delay, as a share of it.
    pub jitter: f64,
    /// Frames that a lost packet holds up for a retransmission.
    pub loss: f64,
    /// Control frames that take a hop through a third DC, and may overtake others.
    pub hop: f64,
    /// Control frames that arrive twice, by both ways.
    pub twice: f64,
    pub commit: (Micros, Micros),
    pub faults: Faults,
    pub aims: Aims,
    pub moves: Option<Moves>,
    /// Small ones let a replica answer in the middle of what it lacks.
    pub append_bytes_max: u64,
    pub idle_ticks: u64,
    /// Frames travel by the product's transports.
    pub quic: bool,
    /// The partition that groups commit to, the last one.
    pub groups: Option<usize>,
    /// Whether some groups have several members.
    pub members: bool,
    /// What each node's wall clock is ahead of the true time, or behind it.
    pub skew_ms: [i64; NODES],
    /// Whether anybody produces once all is healed. Where nobody does, no append tells a replica what
    /// it has missed.
    pub late: bool,
    /// A small journal is replaced every few seconds.
    pub journal_bytes: u64,
    /// Faults happen until here; then everything heals.
    pub faulty_until: Micros,
    pub producers: usize,
    /// Bytes of a record's value, at most.
    pub value_bytes: usize,
    /// Between two batches of a producer, on average.
    pub think: Micros,
}

impl Scenario {
    pub fn draw(seed: u64, rng: &mut SmallRng) -> Self {
        let mut aimed = SmallRng::seed_from_u64(seed ^ AIMS);
        let aims = Aims {
            at_vote: [0.0, 0.0, 0.1, 0.3][aimed.gen_range(0..4)],
            at_election: [0.0, 0.0, 0.1, 0.5][aimed.gen_range(0..4)],
        };
        let append_bytes_max = [APPEND_BYTES_MAX, 16 << 10, 1][aimed.gen_range(0..3)];
        let journal_bytes = [4 << 20, 8 << 10][aimed.gen_range(0..2)];
        let late = aimed.gen_bool(0.5);
        let skew_max = [0, 2_000, 60_000][aimed.gen_range(0..3)];
        let skew_ms = std::array::from_fn(|_| aimed.gen_range(-skew_max..=skew_max));
        let mut value_bytes = [20, 200, 4_000, 60_000][rng.gen_range(0..4)];
        if is_quic(seed) {
            value_bytes = value_bytes.min(QUIC_VALUE_BYTES_MAX);
        }
        let mut partitions: Vec<Partition> =
            (0..rng.gen_range(1..=3)).map(|n| partition(n, value_bytes, rng)).collect();
        let groups = has_groups(seed).then_some(partitions.len());
        if let Some(number) = groups {
            partitions.push(partition(number as i32, value_bytes, rng));
        }
        for partition in &mut partitions {
            let policy = &mut partition.policy;
            // Segments and records of a few seconds.
            if aimed.gen_bool(0.3) {
                policy.log.segment_ms = 3_000;
            }
            policy.retention.ms = aimed.gen_bool(0.2).then_some(8_000);
        }
        let degrade_after = degrade_after(seed);
        for partition in partitions.iter_mut().filter(|p| p.policy.ack.sync_to > 0) {
            partition.policy.ack.degrade_after = degrade_after;
            partition.policy.ack.fence = degrade_after.is_some();
        }
        let mut budgets = SmallRng::seed_from_u64(seed ^ BUDGETS);
        for partition in partitions.iter_mut().filter(|p| p.policy.ack.sync_to == 0) {
            partition.policy.ack.budget = budget(value_bytes, &mut budgets);
        }
        if let Some(number) = groups {
            // A coordinator loads all that was ever committed.
            partitions[number].deletes = false;
            partitions[number].policy.retention = log::Retention { ms: None, bytes: None };
        }
        let mut delay = [[250; 3]; 3];
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            let one_way = rng.gen_range(5..=110) * MILLI;
            delay[a][b] = one_way;
            delay[b][a] = one_way;
        }
        let often = rng.gen_bool(0.5);
        let mut every = |seconds: u64, chance: f64| {
            let mean = seconds * SECOND / if often { 2 } else { 1 };
            rng.gen_bool(chance).then_some(mean)
        };
        let faults = Faults {
            power_cut: every(10, 0.6),
            all_power_cut: every(40, 0.2),
            kill: every(10, 0.5),
            failed_sync: every(20, 0.3),
            pause: every(8, 0.5),
            cut_dc: every(12, 0.5),
            cut_node: every(8, 0.6),
            reconnect: every(4, 0.4),
            lease: every(10, 0.4),
            step_down: every(10, 0.3),
            slow_disk: every(10, 0.3),
            full_disk: full_disk(seed),
            rot: rot(seed),
        };
        let mut drawn = Self {
            partitions,
            delay,
            jitter: rng.gen_range(0.0..0.5),
            loss: [0.0, 0.001, 0.01, 0.05][rng.gen_range(0..4)],
            hop: [0.0, 0.05, 0.3][rng.gen_range(0..3)],
            twice: [0.0, 0.0, 0.02][rng.gen_range(0..3)],
            commit: (100, [1, 5, 20][rng.gen_range(0..3)] * MILLI),
            faults,
            aims,
            moves: Moves::draw(seed),
            append_bytes_max,
            idle_ticks: idle_ticks(seed),
            quic: is_quic(seed),
            groups,
            members: !FIXED[..BEFORE_MEMBERS].contains(&seed),
            skew_ms,
            late,
            journal_bytes,
            faulty_until: faulty_until(seed, rng.gen_range(20..=60)) * SECOND,
            producers: rng.gen_range(1..=4),
            value_bytes,
            think: [10, 50, 200][rng.gen_range(0..3)] * MILLI,
        };
        if drawn.quic {
            drawn.loss = drawn.loss.min(QUIC_LOSS_MAX);
        }
        // Nine disks in memory.
        let minutes = (drawn.faulty_until / (60 * SECOND)).max(1);
        drawn.think = drawn.think.max(value_bytes as Micros / 500 * minutes * MILLI);
        drawn
    }

    /// Partitions that producers write to.
    pub fn plain(&self) -> usize {
        self.partitions.len() - usize::from(self.groups.is_some())
    }

    /// After how long without sync its topic degrades, if it does.
    pub fn degrade_after(&self) -> Option<Duration> {
        self.partitions.iter().find_map(|p| p.policy.ack.degrade_after)
    }

    pub fn is_sync(&self, partition: usize) -> bool {
        self.partitions[partition].policy.ack.sync_to > 0
    }
}

/// Of some round trips, and of some batches of the largest size.
fn budget(value_bytes: usize, rng: &mut SmallRng) -> Budget {
    let batch_bytes = batch::HEADER_BYTES + RECORDS_MAX * (value_bytes + RECORD_BYTES);
    let lag = [None, Some(300), Some(1_000), Some(3_000)][rng.gen_range(0..4)];
    let batches = [None, None, Some(2), Some(20)][rng.gen_range(0..4)];
    Budget {
        lag: lag.map(Duration::from_millis),
        bytes: batches.map(|batches: usize| (batches * batch_bytes) as u64),
        records: None,
        on_lag: [OnLag::Reject, OnLag::Throttle, OnLag::Continue][rng.gen_range(0..3)],
    }
}

pub fn replica_of(node: usize) -> ReplicaId {
    ReplicaId(node as u64 + 1)
}

/// As production derives it for voters within a DC.
pub fn timing() -> Timing {
    let timing = isobar_topology::timing(Duration::ZERO, isobar_topology::timing::ELECTION_TIMEOUT);
    Timing {
        heartbeat_ticks: timing.heartbeat_ticks,
        election_ticks_min: timing.election_ticks_min,
        election_ticks_max: timing.election_ticks_max,
    }
}

fn partition(n: i32, value_bytes: usize, rng: &mut SmallRng) -> Partition {
    let sync_to = [0, 1, 1, 2][rng.gen_range(0..4)];
    let ack = AckPolicy {
        sync_to,
        degrade_after: None,
        min_in_sync: rng.gen_range(1..=3),
        fence: sync_to == 0 && rng.gen_bool(0.5),
        log_append_time: rng.gen_bool(0.2),
        budget: Budget::NONE,
    };
    // Of a few batches, of some dozens, or one for the whole run.
    let segment_bytes =
        [2 << 10, 16 << 10, 1 << 20][rng.gen_range(0..3)].max(4 * value_bytes as u32);
    let log = log::Config { segment_bytes, ..log::Config::default() };
    let bytes = rng.gen_bool(0.3).then_some(u64::from(segment_bytes) * 4);
    let retention = log::Retention { ms: None, bytes };
    Partition {
        at: TopicPartition { topic: TopicId([7; 16]), partition: n },
        home: rng.gen_range(0..DCS.len()),
        policy: Policy { ack, flush: true, log, retention },
        deletes: rng.gen_bool(0.3),
    }
}
