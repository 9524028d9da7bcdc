//! The plan as a person reads it.

use std::fmt;

use super::{Change, Kind, MetaPlan, Plan, PolicyPlan};
use crate::unit::show_duration;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster {}", self.cluster)?;
        writeln!(f)?;
        meta(f, &self.meta)?;
        for plan in &self.policies {
            writeln!(f)?;
            policy(f, plan)?;
        }
        for warning in &self.warnings {
            writeln!(f)?;
            writeln!(f, "warning: {warning}")?;
        }
        writeln!(f)?;
        changes(f, self)
    }
}

fn meta(f: &mut fmt::Formatter<'_>, meta: &MetaPlan) -> fmt::Result {
    let total: usize = meta.voters.values().map(Vec::len).sum();
    let each = meta.voters.iter().map(|(dc, ids)| format!("{dc} {}", numbers(ids)));
    writeln!(f, "__meta")?;
    writeln!(f, "  {total} voter(s): nodes of {}", each.collect::<Vec<_>>().join("; "))?;
    if !meta.learners.is_empty() {
        writeln!(f, "  learners: {}", numbers(&meta.learners))?;
    }
    match meta.indispensable.as_slice() {
        [] => writeln!(f, "  survives the loss of any one DC")?,
        dcs => {
            let names: Vec<&str> = dcs.iter().map(crate::DcName::as_str).collect();
            let names = names.join(" or of ");
            writeln!(f, "  the loss of {names} stops it: no topic is created, no lease renewed")?;
        }
    }
    let timing = &meta.timing;
    writeln!(
        f,
        "  its voters are up to {} ms apart: heartbeat {}, election after {} to {} of silence, leases of {}",
        meta.max_rtt_ms,
        show_duration(timing.heartbeat()),
        show_duration(timing.election_min()),
        show_duration(timing.election_max()),
        show_duration(meta.lease.length),
    )
}

fn policy(f: &mut fmt::Formatter<'_>, plan: &PolicyPlan) -> fmt::Result {
    writeln!(f, "policy {}: {}", plan.name, plan.topics.join(", "))?;
    writeln!(f, "  {}", plan.summary)?;
    let first = &plan.first_partition;
    write!(f, "  a first partition: voters {}", numbers(&first.voters))?;
    match first.learners.as_slice() {
        [] => writeln!(f)?,
        learners => writeln!(f, "; learners {}", numbers(learners))?,
    }
    for ack in &plan.acks {
        let home = &ack.home;
        if ack.waits_for.is_empty() {
            writeln!(f, "  acks=all at home {home}: nothing added, {home} alone answers")?;
        } else {
            let dcs: Vec<&str> = ack.waits_for.iter().map(crate::DcName::as_str).collect();
            let dcs = dcs.join(" and ");
            writeln!(f, "  acks=all at home {home}: {} ms more, for {dcs}", ack.added_ms)?;
        }
    }
    for wan in &plan.wan {
        let megabytes = wan.produce_bytes_per_second_max as f64 / 1e6;
        let gigabytes = wan.bytes_a_day_per_byte_a_second as f64 / 1e3;
        writeln!(
            f,
            "  link {}→{}: each byte {} time(s): {gigabytes:.0} GB a day for each MB/s produced; it carries {megabytes:.1} MB/s of produce",
            wan.from, wan.to, wan.copies
        )?;
    }
    for failure in &plan.failures {
        writeln!(f, "  lose {}:", failure.of)?;
        writeln!(f, "    writes {}", failure.writes)?;
        writeln!(f, "    acknowledged records lost: {}", failure.lost)?;
    }
    Ok(())
}

fn changes(f: &mut fmt::Formatter<'_>, plan: &Plan) -> fmt::Result {
    if plan.changes_nothing() {
        return writeln!(f, "changes: none");
    }
    let Some(generation) = plan.generation else {
        return writeln!(f, "changes: no topology is in force yet");
    };
    writeln!(f, "changes to generation {generation}")?;
    for change in &plan.changes {
        writeln!(f, "  {}", line(change))?;
    }
    let refused = plan.refused().count();
    if refused > 0 {
        writeln!(f, "refused: {refused} change(s) above; nothing of this file can be applied")?;
    }
    Ok(())
}

fn line(change: &Change) -> String {
    let sign = match change.kind {
        Kind::Added => '+',
        Kind::Removed => '-',
        Kind::Changed => '~',
    };
    let mut line = format!("{sign} {}", change.what);
    if !change.detail.is_empty() {
        line.push_str(&format!(": {}", change.detail));
    }
    if !change.note.is_empty() {
        line.push_str(&format!(" ({})", change.note));
    }
    if let Some(why) = &change.refused {
        line.push_str(&format!("  REFUSED: {why}"));
    }
    line
}

fn numbers(ids: &[crate::NodeId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
