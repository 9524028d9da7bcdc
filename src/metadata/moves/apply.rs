//! The three commands. Pure; see the module above for the picture.

use std::sync::Arc;

use super::{
    Activation, Begin, Choice, Chosen, FORK_TERMS_MAX, KEPT_MAX, Kind, Moved, Moving, Report,
    Verdict,
};
use crate::log::Fork;
use crate::metadata::apply::{Outcome, compare, placed};
use crate::metadata::budgets;
use crate::metadata::image::{Image, Partition, Phase, Replica};
use crate::metadata::refusal::{Reason, Refusal};
use crate::model::{HomeEpoch, LogIndex, TopicPartition};

/// Why a move may not begin; `None` if it may.
pub fn refuse_begin(image: &Image, begin: &Begin) -> Option<Refusal> {
    let refused = |reason, message: String| Some(Refusal::new(reason, message));
    let Begin { at, home_epoch, aim } = begin;
    if *at == TopicPartition::META {
        return refused(Reason::InternalTopic, "__meta has voters in every DC and no home".into());
    }
    let Some(now) = image.partition(*at) else {
        return refused(Reason::UnknownTopic, format!("there is no partition {at}"));
    };
    if let Err(stale) = compare("home epoch", *home_epoch, now.home_epoch) {
        return Some(stale);
    }
    if sealed_for(image, now).is_none() {
        return refused(Reason::LimitExceeded, format!("{at} has used up its home epochs"));
    }
    let dc_of = |r: &Replica| image.topology.as_ref()?.dc_of(r.node).cloned();
    if !now.replicas.iter().any(|r| dc_of(r).as_ref() == Some(&aim.to)) {
        let message = format!("{at} has no replica in {}: its home cannot be there", aim.to);
        return refused(Reason::InvalidReplicaAssignment, message);
    }
    match now.moving() {
        None if aim.to == now.home => {
            refused(Reason::InvalidRequest, format!("the home of {at} is {} already", now.home))
        }
        None => None,
        // What is planned may be forced, to wherever; what is forced may be given another target or
        // the operator's word.
        Some(_) if aim.kind == Kind::Failover => None,
        Some(under_way) => refused(
            Reason::Stale,
            format!("the home of {at} is on its way to {} already", under_way.aim.to),
        ),
    }
}

/// The epoch that a move which begins now has everybody promise: the next one, unless logs may have been
/// cut for that one already. `None` where there is none left.
fn sealed_for(image: &Image, now: &Partition) -> Option<HomeEpoch> {
    match now.moving() {
        None => image.epoch_after(now.home_epoch),
        Some(Moving { epoch, chosen: None, .. }) => Some(*epoch),
        Some(Moving { epoch, chosen: Some(_), .. }) => image.epoch_after(*epoch),
    }
}

pub fn begin(image: &mut Image, begin: Begin) -> Outcome {
    if let Some(refusal) = refuse_begin(image, &begin) {
        return Err(refusal);
    }
    let epoch = image.partition(begin.at).and_then(|now| sealed_for(image, now));
    let epoch = epoch.expect("it was looked at above");
    let slot = placed(image, begin.at)?;
    let moving = Moving { aim: begin.aim, epoch, chosen: None };
    Arc::make_mut(slot).phase = Phase::Sealing(moving);
    Ok(())
}

pub fn choose(image: &mut Image, choice: Choice) -> Outcome {
    let Choice { at, home_epoch, fork, verdict, by_word } = choice;
    let slot = placed(image, at)?;
    compare("home epoch", home_epoch, slot.home_epoch)?;
    let moving = fits(at, slot, &fork)?;
    check_word(at, moving, by_word)?;
    if moving.chosen.is_none() {
        let chosen = Some(Chosen { fork: Arc::new(fork), verdict });
        let moving = Moving { chosen, ..moving.clone() };
        Arc::make_mut(slot).phase = Phase::Sealing(moving);
    }
    Ok(())
}

/// The move that a fork belongs to: of its epoch, and of no other cut.
fn fits<'a>(at: TopicPartition, now: &'a Partition, fork: &Fork) -> Result<&'a Moving, Refusal> {
    let Some(moving) = now.moving() else {
        return Err(Refusal::new(Reason::Stale, format!("the home of {at} is not moving")));
    };
    compare("home epoch that is sealed", fork.home_epoch, moving.epoch)?;
    if fork.epochs.len() > FORK_TERMS_MAX {
        let message = format!("a fork with {} terms", fork.epochs.len());
        return Err(Refusal::new(Reason::LimitExceeded, message));
    }
    match &moving.chosen {
        Some(chosen) if *chosen.fork != *fork => {
            let message = format!("the cut of {at} is {} already", chosen.fork.at.offset);
            Err(Refusal::new(Reason::Stale, message))
        }
        _ => Ok(moving),
    }
}

/// A word that was given for one move does not stand for the one that has taken its place (R11).
fn check_word(at: TopicPartition, moving: &Moving, by_word: bool) -> Outcome {
    if by_word && !moving.aim.accept_loss {
        let message = format!("nobody accepts a loss any more for the move of {at}");
        return Err(Refusal::new(Reason::Stale, message));
    }
    Ok(())
}

pub fn activate(image: &mut Image, activation: Activation) -> Outcome {
    let at = activation.at;
    let topic = image.topics.get(&at.topic).map(|t| t.name.clone());
    let budget = budgets::of(image, at.topic);
    let slot = placed(image, at)?;
    let (moved, mut partition) = activated(slot, activation, topic.unwrap_or_default())?;
    partition.budget = budget;
    *slot = Arc::new(partition);
    if image.moved.len() == KEPT_MAX {
        image.moved.remove(0);
    }
    image.moved.push(Arc::new(moved));
    Ok(())
}

fn activated(
    old: &Partition,
    activation: Activation,
    topic: Arc<str>,
) -> Result<(Moved, Partition), Refusal> {
    let Activation { at, home_epoch, home, voters, fork, verdict, by_word, ended_ms } = activation;
    compare("home epoch", home_epoch, old.home_epoch)?;
    let moving = fits(at, old, &fork)?;
    check_word(at, moving, by_word)?;
    compare("target", &home, &moving.aim.to)?;
    let invalid = |message| Err(Refusal::new(Reason::InvalidReplicaAssignment, message));
    let mut seats = Vec::with_capacity(old.replicas.len());
    for id in &voters {
        match old.replicas.iter().find(|r| r.id == *id) {
            Some(replica) if !seats.iter().any(|r: &Replica| r.id == *id) => {
                seats.push(Replica { voter: true, ..*replica });
            }
            _ => return invalid(format!("replica {id} is none of {at}, or stands there twice")),
        }
    }
    if seats.is_empty() {
        return invalid(format!("{at} without a voter"));
    }
    let others = old.replicas.iter().filter(|r| !voters.contains(&r.id));
    seats.extend(others.map(|replica| Replica { voter: false, ..*replica }));
    let moved = Moved {
        at,
        topic,
        kind: moving.aim.kind,
        from: old.home.clone(),
        to: home.clone(),
        home_epoch: fork.home_epoch,
        cut: fork.at,
        verdict,
        accept_loss: moving.aim.accept_loss,
        automatic: moving.aim.automatic,
        began_ms: moving.aim.began_ms,
        ended_ms,
        old_voters: old.voters().map(|r| r.id).collect(),
        suffixes: Vec::new(),
    };
    let mut partition = old.clone();
    partition.home = home;
    partition.home_epoch = fork.home_epoch;
    partition.phase = Phase::Active;
    partition.placement_generation += 1;
    partition.replicas = seats;
    let goes_back = old.lossy_cut.is_some() && brings_back(old, &fork);
    if verdict != Verdict::Lossless || goes_back {
        partition.lossy_cut = Some(fork.at.index);
    }
    partition.fork = Some(Arc::new(fork));
    // What was degraded is: who would enforce more must first have it in the log (R8).
    partition.began = partition.mode;
    Ok((moved, partition))
}

/// Whether a home begins with entries that were cut off from an earlier one: its log is of before the home that
/// ends, and longer than what that began with. Producers may have lost what came after those entries, too.
fn brings_back(old: &Partition, fork: &Fork) -> bool {
    let began = old.fork.as_ref().map_or(LogIndex::ZERO, |fork| fork.at.index);
    fork.at.term.home_epoch() < old.home_epoch && fork.at.index > began
}

/// A replica's word; a repeated one changes nothing.
pub fn report(image: &mut Image, report: Report) -> Outcome {
    let Report { at, home_epoch, suffix } = report;
    let of = image.moved.iter_mut().find(|m| m.at == at && m.home_epoch == home_epoch);
    let Some(moved) = of else {
        let message = format!("no move of {at} to home epoch {home_epoch} is kept any more");
        return Err(Refusal::new(Reason::Stale, message));
    };
    if !moved.suffixes.iter().any(|s| s.replica == suffix.replica) {
        Arc::make_mut(moved).suffixes.push(suffix);
    }
    Ok(())
}
