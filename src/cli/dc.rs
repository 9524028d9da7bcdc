//! `isobar dc`: where homes are, and moving them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::client::Target;
use super::cluster::show;
use super::confirm::confirmed;
use super::groups;
use super::modes;
use super::output::{self, Table};
use super::verdict::claim;
use crate::admin::api::{self, MoveKind};

/// Between two looks at moves that are under way.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a command waits for the moves that it began. They go on after it, whoever looks.
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// A silent node is waited for at most so long before who waits is told; then nothing is looked at.
const SAY_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Every datacenter: its nodes, the homes in it, what would be lost, degraded topics, and moves under way
    Status(Target),
    /// Move homes while everybody answers: nothing is lost
    Switchover(Switchover),
    /// Move homes out of a datacenter that is lost: the plan says what may be lost
    Failover(Failover),
    /// Move homes back to the datacenter that their policy names: nothing is lost
    Failback(Switchover),
    /// Moves that have ended: what they claimed, and what old homes turned out to have had; how sync topics
    /// degraded and recovered; and groups that had read on in a lost home
    History(Target),
}

#[derive(Debug, clap::Args)]
pub struct Switchover {
    #[command(flatten)]
    what: What,
}

#[derive(Debug, clap::Args)]
pub struct Failover {
    #[command(flatten)]
    what: What,
    /// What cannot be proven to be safe may be lost; goes on record
    #[arg(long)]
    accept_loss: bool,
}

#[derive(Debug, clap::Args)]
pub struct What {
    /// The datacenter that is left; of a failback, the one that is returned to
    dc: String,
    /// Where the homes go; the nearest datacenter that can take over, if not given
    #[arg(long, value_name = "DC")]
    to: Option<String>,
    /// Only topics of these names: `*` is any run of characters, `?` any one
    #[arg(long, value_name = "PATTERN")]
    topics: Option<String>,
    /// Only show what would happen
    #[arg(long)]
    plan: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Status(target) => status(&target),
        Command::Switchover(Switchover { what }) => go(MoveKind::Switchover, &what, false),
        Command::Failover(Failover { what, accept_loss }) => {
            go(MoveKind::Failover, &what, accept_loss)
        }
        Command::Failback(Switchover { what }) => {
            anyhow::ensure!(
                what.to.is_none(),
                "--to: found {:?}; a failback goes to the datacenter that it names",
                what.to.as_deref().unwrap_or_default()
            );
            go(MoveKind::Failback, &what, false)
        }
        Command::History(target) => {
            let (moves, modes) = (target.fetch("/v1/moves")?, target.fetch("/v1/modes")?);
            let groups = target.fetch("/v1/groups/led-back")?;
            show(&target, &History { moves, modes, groups }, |all| {
                history(&all.moves.ended)
                    + &modes::changes(&all.modes.changes)
                    + &groups::led_back(&all.groups)
            })
        }
    }
}

#[derive(Debug, serde::Serialize)]
struct History {
    #[serde(flatten)]
    moves: api::Moves,
    #[serde(flatten)]
    modes: api::Modes,
    groups: api::LedBack,
}

/// What one datacenter is about.
#[derive(Debug, Clone, Default, serde::Serialize)]
struct Dc {
    nodes: usize,
    nodes_up: usize,
    /// How long the node there that is gone for the shortest time has been, if all are: as the node that was asked
    /// sees it, see `isobar_topology::detector`.
    gone_seconds: Option<f64>,
    /// Partitions whose home it is.
    homes: usize,
    leaderless: usize,
    /// What it lacks of other homes' acknowledged records.
    exposure: Option<api::Exposure>,
}

fn status(target: &Target) -> anyhow::Result<()> {
    let cluster: api::Cluster = target.fetch("/v1/cluster")?;
    let partitions: api::IsrStatus = target.fetch("/v1/isr")?;
    let moves: api::Moves = target.fetch("/v1/moves")?;
    let modes: api::Modes = target.fetch("/v1/modes")?;
    let mut dcs: BTreeMap<String, Dc> = BTreeMap::new();
    for node in &cluster.nodes {
        let dc = dcs.entry(node.dc.clone()).or_default();
        dc.nodes += 1;
        // The first decides, or whoever is heard.
        dc.gone_seconds = match (dc.nodes, dc.gone_seconds, node.gone_seconds) {
            (1, _, gone) => gone,
            (_, Some(before), Some(gone)) => Some(before.min(gone)),
            _ => None,
        };
        dc.nodes_up += usize::from(node.state == api::NodeState::Up);
    }
    for partition in &partitions.partitions {
        let dc = dcs.entry(partition.placement.home.clone()).or_default();
        dc.homes += 1;
        dc.leaderless += usize::from(partition.placement.leader.is_none());
    }
    for (name, exposure) in &cluster.exposure {
        dcs.entry(name.clone()).or_default().exposure = Some(*exposure);
    }
    if target.json {
        let (moves, held, degraded) = (moves.under_way, moves.held, modes.degraded);
        return output::print_json(
            &serde_json::json!({ "dcs": dcs, "moves": moves, "held": held, "degraded": degraded }),
        );
    }
    let mut table =
        Table::new(["DC", "NODES UP", "HOMES", "WITHOUT LEADER", "LACKS", "RECORDS", "BYTES"]);
    for (name, dc) in &dcs {
        let exposure = dc.exposure.unwrap_or_default();
        table.row([
            name.clone(),
            format!("{} of {}", dc.nodes_up, dc.nodes),
            dc.homes.to_string(),
            dc.leaderless.to_string(),
            output::seconds(exposure.seconds),
            exposure.records.to_string(),
            output::bytes(exposure.bytes),
        ]);
    }
    let mut out = table.render();
    for (name, gone) in dcs.iter().filter_map(|(name, dc)| Some((name, dc.gone_seconds?))) {
        let _ = write!(
            out,
            "\n{name} is lost: most other datacenters have not heard of it for {}\n",
            output::seconds(gone)
        );
    }
    for (name, dc) in dcs.iter().filter(|(_, dc)| dc.nodes_up == 0 && dc.homes > 0) {
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "\nnobody in {name} answers, and {} at home there: `isobar dc failover {name} --plan` says \
             what would be lost\n",
            output::count(dc.homes, "partition is")
        );
    }
    for held in &moves.held {
        let api::MoveHeld { topic, partition, why } = held;
        let _ = write!(out, "\n{topic}-{partition} does not move by itself: {why}\n");
    }
    out.push_str(&modes::degraded(&modes.degraded));
    if !moves.under_way.is_empty() {
        let _ = write!(out, "\n{}", under_way(&moves.under_way));
    }
    output::print(&out)
}

fn under_way(moves: &[api::MoveUnderWay]) -> String {
    let mut table = Table::new(["MOVING", "PARTITION", "KIND", "FROM", "TO"]);
    for one in moves {
        table.row([
            one.topic.clone(),
            one.partition.to_string(),
            word(one.kind, one.automatic),
            one.from.clone(),
            one.to.clone(),
        ]);
    }
    table.render()
}

fn go(kind: MoveKind, what: &What, accept_loss: bool) -> anyhow::Result<()> {
    let What { dc, to, topics, plan, yes, target } = what;
    let proposal = |plan_only| api::MoveProposal {
        kind,
        dc: dc.clone(),
        to: to.clone(),
        topics: topics.clone(),
        accept_loss,
        plan_only,
    };
    let before: api::Moves = target.fetch("/v1/moves")?;
    let mut began = Instant::now();
    // Who has said yes is not made to wait for a second plan.
    let at_once = *yes && !plan;
    let mut planned: api::MovePlan = target.change("/v1/moves", &proposal(!at_once))?;
    if *plan && target.json {
        return output::print_json(&planned);
    }
    // With --json, standard output is the report's alone.
    if target.json {
        eprint!("{}", table_of(&planned));
    } else {
        output::print(&table_of(&planned))?;
    }
    if *plan {
        return Ok(());
    }
    let movable = planned.topics.iter().filter(|topic| topic.refused.is_none()).count();
    anyhow::ensure!(movable > 0, "nothing is moved");
    if !at_once {
        anyhow::ensure!(confirmed("move these?")?, "nothing is moved: it takes \"yes\", or --yes");
        began = Instant::now();
        planned = target.change("/v1/moves", &proposal(false))?;
    }
    let after = wait(target, before.ended.len(), began)?;
    let ended: Vec<api::MoveEnded> = after.ended.into_iter().skip(before.ended.len()).collect();
    if target.json {
        output::print_json(&ended)?;
    } else {
        output::print(&history(&ended))?;
    }
    let refused = planned.topics.iter().filter(|topic| topic.refused.is_some()).count();
    anyhow::ensure!(
        refused == 0,
        "{} moved in {:.1} s; {} refused, see above",
        output::count(planned.begun, "partition"),
        began.elapsed().as_secs_f64(),
        output::count(refused, "topic")
    );
    if !target.json {
        eprintln!(
            "{} moved in {:.1} s",
            output::count(planned.begun, "partition"),
            began.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// Until nothing is under way, with a word now and then.
fn wait(target: &Target, ended_before: usize, began: Instant) -> anyhow::Result<api::Moves> {
    let mut said = Instant::now();
    loop {
        let moves: api::Moves = target.fetch("/v1/moves")?;
        if moves.under_way.is_empty() {
            return Ok(moves);
        }
        anyhow::ensure!(
            began.elapsed() < WAIT_MAX,
            "{} still under way; they go on: `isobar dc status` shows them, the log of the leader of \
             __meta says what they wait for",
            output::count(moves.under_way.len(), "move")
        );
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            eprintln!(
                "{} done, {} under way after {} s",
                moves.ended.len().saturating_sub(ended_before),
                moves.under_way.len(),
                began.elapsed().as_secs()
            );
        }
        // tidy: the admin port has no event to wait for; the limit is above.
        std::thread::sleep(LOOK_EVERY);
    }
}

fn table_of(plan: &api::MovePlan) -> String {
    if plan.topics.is_empty() {
        return "no topic has a home to move there\n".to_owned();
    }
    let mut out = String::new();
    if !plan.silent.is_empty() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "answered: nodes {}; silent: nodes {}\n",
            output::list(&plan.answered),
            output::list(&plan.silent)
        );
    }
    let mut table =
        Table::new(["TOPIC", "PARTITIONS", "REPLICATION", "FROM", "TO", "VERDICT", "WRITE PAUSE"]);
    for topic in &plan.topics {
        table.row([
            topic.topic.clone(),
            topic.partitions.to_string(),
            topic.replication.clone(),
            topic.from.clone(),
            if topic.to.is_empty() { "-".to_owned() } else { topic.to.clone() },
            claim(topic.verdict),
            match topic.refused {
                Some(_) => "-".to_owned(),
                None => format!("about {}", output::seconds(topic.write_pause_seconds)),
            },
        ]);
    }
    out.push_str(&table.render());
    for topic in &plan.topics {
        if let Some(why) = &topic.refused {
            let _ = writeln!(out, "\n{} is not moved: {why}", topic.topic);
        }
    }
    out
}

fn history(moves: &[api::MoveEnded]) -> String {
    if moves.is_empty() {
        return "no home has moved yet\n".to_owned();
    }
    let mut table = Table::new([
        "ENDED",
        "TOPIC",
        "PARTITION",
        "KIND",
        "FROM",
        "TO",
        "EPOCH",
        "CUT",
        "VERDICT",
        "BEYOND",
    ]);
    for one in moves {
        let claimed = claim(one.verdict);
        table.row([
            utc(one.ended_ms),
            one.topic.clone(),
            one.partition.to_string(),
            word(one.kind, one.automatic),
            one.from.clone(),
            one.to.clone(),
            one.home_epoch.to_string(),
            one.cut_offset.to_string(),
            if one.accept_loss { format!("{claimed} (accepted)") } else { claimed },
            beyond(one),
        ]);
    }
    table.render()
}

/// What the old home had beyond the cut, and what became of it.
fn beyond(one: &api::MoveEnded) -> String {
    let mut text = match (one.beyond_records, one.ledgers.as_slice()) {
        (None, []) => "old home not read yet".to_owned(),
        (None, nodes) => format!("in the ledger of {}", output::list(nodes)),
        (Some(0), _) => "nothing".to_owned(),
        (Some(records), nodes) => {
            let records = output::count(records as usize, "record");
            format!("{records}, in the ledger of {}", output::list(nodes))
        }
    };
    if let Some(name) = &one.suffix_topic {
        let _ = write!(text, "; topic {name}");
    }
    if let Some(back) = one.brought_back {
        let api::BroughtBack { home_epoch, first_offset, last_offset } = back;
        let _ = write!(
            text,
            "; offsets {first_offset} to {last_offset} are in the log again since epoch {home_epoch}"
        );
    }
    text
}

fn word(kind: MoveKind, automatic: bool) -> String {
    let word = match kind {
        MoveKind::Switchover => "switchover",
        MoveKind::Failover => "failover",
        MoveKind::Failback => "failback",
    };
    if automatic { format!("{word} (automatic)") } else { word.to_owned() }
}

/// As people and logs write it: 2026-03-01T12:00:00Z.
pub(super) fn utc(unix_ms: i64) -> String {
    let (days, seconds) =
        (unix_ms.div_euclid(86_400_000), unix_ms.div_euclid(1000).rem_euclid(86_400));
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    // Days to a civil date, after Howard Hinnant's `civil_from_days`.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::api::Verdict;

    #[test]
    fn times_are_written_in_utc() {
        let times = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_825_600_000, "2000-02-29T12:00:00Z"),
            (1_764_115_200_000, "2025-11-26T00:00:00Z"),
        ];
        for (ms, text) in times {
            assert_eq!(utc(ms), text);
        }
    }

    #[test]
    fn a_plan_says_per_topic_what_would_be_lost_and_who_was_silent() {
        let topic = |name: &str, verdict, refused: Option<&str>| api::MoveOfTopic {
            topic: name.into(),
            replication: "async".into(),
            partitions: 3,
            from: "fra".into(),
            to: "iad".into(),
            verdict,
            write_pause_seconds: 0.4,
            refused: refused.map(Into::into),
        };
        let plan = api::MovePlan {
            topics: vec![
                topic("a", Verdict::Lossless, None),
                topic("b", Verdict::UnboundedSince { since_ms: 1_764_115_200_000 }, None),
                topic("c", Verdict::Undecided, Some("too few answer")),
            ],
            answered: vec![4, 5],
            silent: vec![1, 2, 3],
            begun: 0,
        };
        let shown = table_of(&plan);
        for part in [
            "silent: nodes 1,2,3",
            "lossless, proven",
            "unbounded since 2025-11-26T00:00:00Z",
            "c is not moved: too few answer",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
