//! `isobar meta recover`: the one way out when most of `__meta` is gone for good.
//!
//! It works on the data directories of a stopped node, asks every other node that can be asked, and refuses whatever
//! would make two clusters of one, or lose more than it has to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use isobar_topology::quorum::majority;
use isobar_topology::{NodeId, Topology};

use super::client::{self, Target};
use super::cluster::show;
use super::confirm::confirmed;
use super::output::{self, Table};
use super::topology;
use crate::admin::api::{self, MetaLog};
use crate::broker::recover::Survivor;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// What a node has of __meta, and who leads it
    Status(Target),
    /// A majority of the voters of __meta is gone for good: go on with what this node has of it
    Recover(Recover),
}

#[derive(Debug, clap::Args)]
pub struct Recover {
    /// The topology file, the same on every node
    #[arg(long, env = "ISOBAR_TOPOLOGY", value_name = "FILE")]
    topology: PathBuf,
    /// The node whose data directories these are; it is stopped
    #[arg(long, env = "ISOBAR_NODE", value_name = "N")]
    node: u64,
    /// Overrides the file's `data_dirs`; once for each disk, or separated by commas
    #[arg(long, env = "ISOBAR_DATA_DIR", value_name = "DIR", value_delimiter = ',')]
    data_dir: Vec<PathBuf>,
    /// Who is gone for good: a datacenter or a node's number; more than once, or separated by commas
    #[arg(long, value_name = "DC|N", value_delimiter = ',', required = true)]
    lost: Vec<String>,
    /// Only show what would happen
    #[arg(long)]
    plan: bool,
    /// What the lost nodes had decided, and this one has not, may be lost; goes on record
    #[arg(long)]
    accept_loss: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Status(target) => status(&target),
        Command::Recover(args) => recover(&args),
    }
}

fn status(target: &Target) -> anyhow::Result<()> {
    let here: api::MetaHere = target.fetch("/v1/meta")?;
    show(target, &here, |here| {
        let mut table = Table::new(["NODE", "LEADER", "HOME EPOCH", "TERM", "LAST ENTRY"]);
        table.row([
            here.asked.to_string(),
            output::or_dash(here.controller),
            output::or_dash(here.log.map(|log| log.home_epoch)),
            output::or_dash(here.log.map(|log| log.term)),
            output::or_dash(here.log.map(|log| log.index)),
        ]);
        table.render()
    })
}

/// For people and for scripts.
#[derive(Debug, serde::Serialize)]
struct Plan {
    node: u32,
    cluster_id: Option<String>,
    /// Where the log ends that would be gone on with.
    log: MetaLog,
    /// Up to here it is known to have been decided; what is after it becomes so.
    committed: u64,
    topics: usize,
    voters: Vec<u32>,
    lost: Vec<u32>,
    /// The others that are left, each with less or as much.
    left: Vec<u32>,
    /// Partitions on these disks that this log does not know, or knows an older home of.
    unknown: Vec<String>,
    ahead: Vec<String>,
    recovered: bool,
}

fn recover(args: &Recover) -> anyhow::Result<()> {
    let topology = topology::read(&args.topology)?;
    let node = NodeId::new(args.node)?;
    let here = topology.node(node).ok_or_else(|| {
        anyhow::anyhow!("--node {node}: no such node in {}", args.topology.display())
    })?;
    let lost = lost(&topology, &args.lost)?;
    anyhow::ensure!(!lost.contains(&node), "--lost names node {node} itself, which is to go on");
    let dirs =
        if args.data_dir.is_empty() { here.data_dirs.clone() } else { args.data_dir.clone() };
    let survivor = Survivor::open(&dirs, node)?;
    let log = MetaLog {
        home_epoch: survivor.last.term.home_epoch().as_u32(),
        term: survivor.last.term.0,
        index: survivor.last.index.0,
    };
    check_majority(&survivor.voters(), &lost)?;
    let others = topology.nodes().filter(|other| other.id != node);
    let heard = ask(others.map(|other| (other.id, other.admin.advertised.to_string())).collect());
    let left = judge(&heard, &lost, (node, log))?;
    let ids = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|id| id.as_u32()).collect();
    let mut plan = Plan {
        node: node.as_u32(),
        cluster_id: survivor.cluster_id.clone(),
        log,
        committed: survivor.committed.0,
        topics: survivor.image.topics.len(),
        voters: ids(&survivor.voters()),
        lost: ids(&lost),
        left: ids(&left),
        unknown: survivor.unknown.clone(),
        ahead: survivor.ahead.clone(),
        recovered: false,
    };
    if !args.json {
        output::print(&told(&plan))?;
    }
    if !args.plan {
        anyhow::ensure!(
            args.accept_loss,
            "what the lost nodes had decided, and this one has not, may be lost: say --accept-loss if it may. \
             Nothing was changed"
        );
        let question = format!(
            "Go on with what node {node} has of __meta, without {}, for good?",
            output::list(&plan.lost)
        );
        anyhow::ensure!(args.yes || confirmed(&question)?, "nothing was changed");
        let at_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let epoch = survivor.recover(lost, i64::try_from(at_ms)?)?;
        plan.recovered = true;
        if !args.json {
            output::print(&format!(
                "\n__meta goes on here, in home epoch {epoch}. Start node {node}; the others follow it when they hear it. \
                 Then `isobar dc failover DC --plan` for each datacenter that is lost.\n"
            ))?;
        }
    }
    if args.json { output::print_json(&plan) } else { Ok(()) }
}

/// The nodes that the words mean.
fn lost(topology: &Topology, words: &[String]) -> anyhow::Result<BTreeSet<NodeId>> {
    let mut lost = BTreeSet::new();
    for word in words {
        let named = |node: &&isobar_topology::Node| {
            node.dc.as_str() == word || word.parse() == Ok(u64::from(node.id.as_u32()))
        };
        let before = lost.len();
        let nodes: Vec<NodeId> = topology.nodes().filter(named).map(|node| node.id).collect();
        lost.extend(&nodes);
        anyhow::ensure!(
            !nodes.is_empty() || lost.len() > before,
            "--lost: found {word:?}; expected a datacenter or a node's number of the topology"
        );
    }
    Ok(lost)
}

/// Refuses where the rest is enough.
fn check_majority(voters: &BTreeSet<NodeId>, lost: &BTreeSet<NodeId>) -> anyhow::Result<()> {
    let left: Vec<&NodeId> = voters.difference(lost).collect();
    anyhow::ensure!(
        left.len() < majority(voters.len()),
        "of the voters of __meta ({}) nodes {} are not lost, and they are a majority: start them, and nothing has to be \
         recovered. Nothing was changed",
        output::list(&voters.iter().collect::<Vec<_>>()),
        output::list(&left)
    );
    Ok(())
}

/// Every node's own word, all asked at once; `None` of who does not answer.
fn ask(nodes: Vec<(NodeId, String)>) -> BTreeMap<NodeId, Option<api::MetaHere>> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = nodes
            .iter()
            .map(|(id, admin)| {
                (*id, scope.spawn(move || client::fetch::<api::MetaHere>(admin, "/v1/meta").ok()))
            })
            .collect();
        asked.into_iter().map(|(id, answer)| (id, answer.join().unwrap_or(None))).collect()
    })
}

/// Who else is left; refuses where somebody says that this is not the time, or not the place.
fn judge(
    heard: &BTreeMap<NodeId, Option<api::MetaHere>>,
    lost: &BTreeSet<NodeId>,
    (node, log): (NodeId, MetaLog),
) -> anyhow::Result<BTreeSet<NodeId>> {
    let mut left = BTreeSet::new();
    let mut silent = Vec::new();
    for (id, here) in heard {
        let Some(here) = here else {
            if !lost.contains(id) {
                silent.push(*id);
            }
            continue;
        };
        anyhow::ensure!(
            !lost.contains(id),
            "node {id} is named as lost, and it answers. Nothing was changed"
        );
        if let Some(leader) = here.controller.filter(|leader| *leader != node.as_u32()) {
            anyhow::bail!(
                "__meta has a leader: node {leader}, as node {id} says. There is nothing to recover. Nothing was changed"
            );
        }
        if let Some(more) = here.log.filter(|theirs| {
            (theirs.term, theirs.index) > (log.term, log.index)
                || theirs.home_epoch > log.home_epoch
        }) {
            anyhow::bail!(
                "node {id} has more of __meta (term {}, entry {}) than node {node} (term {}, entry {}): recover from that \
                 one. Nothing was changed",
                more.term,
                more.index,
                log.term,
                log.index
            );
        }
        left.insert(*id);
    }
    anyhow::ensure!(
        silent.is_empty(),
        "nodes {} do not answer, and are not named as lost: one of them may have more of __meta than node {node}. Start them, \
         so that they say what they have; or name them with --lost. Nothing was changed",
        output::list(&silent)
    );
    Ok(left)
}

fn told(plan: &Plan) -> String {
    let Plan { node, log, committed, voters, lost, left, .. } = plan;
    let mut out = format!(
        "voters of __meta: {}; lost: {}; left beside node {node}: {}\n\
         node {node} has __meta up to entry {}, term {}: {}\n\
         known to have been decided: up to entry {committed}; what is after it holds from now on\n\n\
         May be lost: whatever the lost nodes decided after that. A decision is on a majority of the voters, and most of \
         them are gone, so nobody can say whether there was one: topics made or deleted, partitions added, configs, moves \
         of homes, disks that were admitted. Records of topics are not touched.\n\n\
         The lost nodes must not be started where they cannot reach this one: they would go on as the cluster that they were. \
         Where they reach it, they follow.\n",
        output::list(voters),
        output::list(lost),
        output::list(left),
        log.index,
        log.term,
        output::count(plan.topics, "topic"),
    );
    // Writing to a String cannot fail.
    if !plan.unknown.is_empty() {
        let _ = write!(
            out,
            "\nOn these disks, and unknown to this log; they are kept, and not opened: {}\n",
            output::list(&plan.unknown)
        );
    }
    if !plan.ahead.is_empty() {
        let _ = write!(
            out,
            "\nIn a later home epoch on these disks than in this log; move their homes again: {}\n",
            output::list(&plan.ahead)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().map(|id| NodeId::new(*id).unwrap()).collect()
    }

    fn log(term: u64, index: u64) -> MetaLog {
        MetaLog { home_epoch: 1, term, index }
    }

    fn says(controller: Option<u32>, log: Option<MetaLog>) -> Option<api::MetaHere> {
        Some(api::MetaHere { asked: 1, controller, log })
    }

    fn judged(heard: &[(u64, Option<api::MetaHere>)]) -> Result<Vec<u32>, String> {
        let heard = heard.iter().map(|(id, c)| (NodeId::new(*id).unwrap(), c.clone())).collect();
        let here = (NodeId::new(7).unwrap(), log(9, 50));
        match judge(&heard, &nodes(&[1, 2]), here) {
            Ok(left) => Ok(left.iter().map(|id| id.as_u32()).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn it_is_refused_while_somebody_says_that_it_is_not_the_time_or_the_place() {
        let quiet = says(None, Some(log(9, 50)));
        assert_eq!(judged(&[(1, None), (2, None), (8, quiet.clone())]), Ok(vec![8]));
        let table = [
            (
                vec![(1, quiet.clone()), (8, quiet.clone())],
                "node 1 is named as lost, and it answers",
            ),
            (vec![(8, says(Some(2), None))], "__meta has a leader: node 2"),
            (
                vec![(8, says(None, Some(log(9, 51))))],
                "node 8 has more of __meta (term 9, entry 51)",
            ),
            (
                vec![(8, says(None, Some(log(10, 3))))],
                "node 8 has more of __meta (term 10, entry 3)",
            ),
            (vec![(8, quiet.clone()), (9, None)], "nodes 9 do not answer"),
        ];
        for (heard, expected) in table {
            let refused = judged(&heard).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
        // What it last heard of the node that is stopped says nothing.
        assert_eq!(judged(&[(8, says(Some(7), Some(log(8, 60))))]), Ok(vec![8]));
    }

    #[test]
    fn a_majority_that_is_not_lost_is_to_be_started() {
        let voters = nodes(&[1, 4, 7]);
        assert!(check_majority(&voters, &nodes(&[1, 2, 3, 4, 5, 6])).is_ok());
        let refused = check_majority(&voters, &nodes(&[1, 2, 3])).unwrap_err().to_string();
        assert!(refused.contains("nodes 4,7 are not lost"), "{refused}");
    }
}
