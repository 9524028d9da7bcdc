//! Topology files: read, checked, planned, applied.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use isobar_topology::plan::{self, Measured, Plan};
use isobar_topology::{DcName, Topology};

use super::client::{self, Target};
use super::output;
use crate::admin::api;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say everything that is wrong with a file
    Check(Check),
    /// Make a file the cluster's topology, after showing what it changes
    Apply(Apply),
}

#[derive(Debug, clap::Args)]
pub struct Check {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Apply {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The admin address of any node: what changes there is planned too, with the round trips that its datacenter measures
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Check(args) => check(&args),
        Command::Apply(args) => apply(&args),
    }
}

/// Reads a file and says everything that is wrong with it, all in one go.
pub fn read(path: &Path) -> anyhow::Result<Topology> {
    let text = read_text(path)?;
    match Topology::parse(&text) {
        Ok((topology, warnings)) => {
            for warning in warnings {
                eprintln!("{}: warning: {warning}", path.display());
            }
            Ok(topology)
        }
        Err(problems) => anyhow::bail!("{}:\n{problems}", path.display()),
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

fn check(args: &Check) -> anyhow::Result<()> {
    let file = args.file.display();
    if args.json {
        let (problems, is_good) = match Topology::parse(&read_text(&args.file)?) {
            Ok((_, warnings)) => (warnings, true),
            Err(problems) => (problems.as_slice().to_vec(), false),
        };
        output::print_json(&serde_json::json!({ "good": is_good, "problems": problems }))?;
        anyhow::ensure!(is_good, "{file} is refused");
        return Ok(());
    }
    let topology = read(&args.file)?;
    output::print(&format!(
        "{file} is good: {} DCs, {} nodes, {} policies\n",
        topology.dcs().len(),
        topology.nodes().count(),
        topology.policies().count()
    ))
}

pub fn plan(args: &PlanArgs) -> anyhow::Result<()> {
    let topology = read(&args.file)?;
    let plan = match &args.admin {
        Some(admin) => Current::of(admin)?.plan(&topology),
        None => plan::render(None, &topology),
    };
    if args.json { output::print_json(&plan) } else { output::print(&format!("{plan}\n")) }
}

/// What is in force.
struct Current {
    topology: Topology,
    generation: u64,
    measured: Measured,
}

impl Current {
    fn of(admin: &str) -> anyhow::Result<Self> {
        let api::Topology { generation, text } = client::fetch(admin, "/v1/topology")?;
        let links: api::Links = client::fetch(admin, "/v1/links")?;
        let (topology, _) = Topology::parse(&text).map_err(|problems| {
            anyhow::anyhow!(
                "this isobar cannot read the cluster's topology; use its version:\n{problems}"
            )
        })?;
        let topology = topology.with_generation(generation);
        let measured = links.links.iter().filter_map(measured).collect();
        Ok(Self { topology, generation, measured })
    }

    fn plan(&self, next: &Topology) -> Plan {
        plan::render_measured(Some(&self.topology), next, &self.measured)
    }
}

fn measured(link: &api::Link) -> Option<((DcName, DcName), Duration)> {
    let (a, b) = &link.between;
    let rtt = Duration::try_from_secs_f64(link.measured_rtt_seconds?).ok()?;
    Some(((a.parse().ok()?, b.parse().ok()?), rtt))
}

fn apply(args: &Apply) -> anyhow::Result<()> {
    let Apply { file, yes, target } = args;
    let topology = read(file)?;
    let current = Current::of(&target.admin)?;
    let plan = current.plan(&topology);
    // With --json, standard output is the answer's alone.
    if target.json {
        eprintln!("{plan}")
    } else {
        output::print(&format!("{plan}\n"))?
    }
    let refused: Vec<String> = plan
        .refused()
        .map(|change| format!("{}: {}", change.what, change.refused.as_deref().unwrap_or_default()))
        .collect();
    anyhow::ensure!(refused.is_empty(), "not applied:\n{}", refused.join("\n"));
    let proposal = |validate_only| api::TopologyProposal {
        text: topology.source().to_owned(),
        expected_generation: Some(current.generation),
        validate_only,
    };
    // What only the cluster knows: the topics that exist.
    let checked: api::TopologyApplied = target.change("/v1/topology", &proposal(true))?;
    for note in &checked.notes {
        eprintln!("{note}");
    }
    if !yes && !plan.changes_nothing() && !confirmed()? {
        anyhow::bail!("not applied: it takes \"yes\", or --yes");
    }
    let applied: api::TopologyApplied = target.change("/v1/topology", &proposal(false))?;
    if target.json {
        return output::print_json(&applied);
    }
    output::print(&format!("the topology is of generation {} now\n", applied.generation))
}

fn confirmed() -> anyhow::Result<bool> {
    eprint!("apply this? [yes/no] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "yes" | "y"))
}
