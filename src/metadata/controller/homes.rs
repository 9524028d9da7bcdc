//! Moves of homes: what an operator asks for, and what those who carry it out have found.
//!
//! Little is decided here. Whether a move may begin, and whether a seal is enough, is checked where it
//! is applied (`moves`) and counted by who saw the seals (`isobar_topology::home_move`).

use super::{Context, Decision, bounded, topology};
use crate::metadata::command::Command;
use crate::metadata::moves::{Activation, Begin, Choice, Report, refuse_begin};
use crate::metadata::refusal::Refusal;
use crate::metadata::request::Response;

pub fn begin(context: &Context<'_>, moves: Vec<Begin>) -> Result<Decision, Refusal> {
    bounded(moves.len())?;
    topology(context.image)?;
    let mut commands = Vec::new();
    let mut results = Vec::with_capacity(moves.len());
    for (item, begin) in moves.into_iter().enumerate() {
        match refuse_begin(context.image, &begin) {
            Some(refusal) => results.push(Err(refusal)),
            None => {
                results.push(Ok(()));
                commands.push((item, Command::BeginMove(begin)));
            }
        }
    }
    Ok(Decision { commands, response: Response::MovesBegun(results) })
}

pub fn choose(choices: Vec<Choice>) -> Result<Decision, Refusal> {
    bounded(choices.len())?;
    let results = vec![Ok(()); choices.len()];
    let commands = choices.into_iter().map(|c| Command::ChooseCut(Box::new(c)));
    let commands = commands.enumerate().collect();
    Ok(Decision { commands, response: Response::CutsChosen(results) })
}

pub fn activate(activations: Vec<Activation>) -> Result<Decision, Refusal> {
    bounded(activations.len())?;
    let results = vec![Ok(()); activations.len()];
    let commands = activations.into_iter().map(|a| Command::ActivateHome(Box::new(a)));
    let commands = commands.enumerate().collect();
    Ok(Decision { commands, response: Response::HomesActivated(results) })
}

pub fn report(report: Report) -> Decision {
    Decision { commands: vec![(0, Command::ReportSuffix(report))], response: Response::Reported }
}
