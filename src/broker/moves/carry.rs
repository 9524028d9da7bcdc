//! The driver of one move: calls, clocks and `__meta` for the pure [`Carrier`].

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::activate::Activator;
use super::wire::{self, Ask};
use super::{Error, Moves, hold, now_ms, seal};
use crate::broker::inbound::method;
use crate::metadata::moves::carrier::{
    Attempt, Carrier, Course, Effect, HOLD_WAIT, SEAL_WAIT, Seal, When,
};
use crate::metadata::moves::{Activation, Aim, Begin, Kind};
use crate::metadata::request::{Request, Response};
use crate::metadata::service;
use crate::model::{HomeEpoch, NodeId, ReplicaId, TopicPartition};

/// How long the leader may take to bring everything to the next home.
const HAND_OFF_TIMEOUT: Duration = Duration::from_secs(10);

/// For one request: a round trip to a majority of `__meta`, several times.
const CHOOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What became of an effect.
enum Answer {
    HandedOff(Attempt, Result<(), Error>),
    Sealed(Attempt, (ReplicaId, NodeId), Result<Seal, Error>),
    Chosen(Attempt, Result<(), Error>),
    Held(Attempt, ReplicaId, Result<bool, Error>),
    LeasesOver(Attempt, Result<(), Error>),
    Activated(Attempt, Result<(), Error>),
    GivenUp(Result<(), Error>),
}

/// Carries a move to its end, or until this node leads `__meta` no more, or the move is another one.
pub(super) async fn carry(moves: Moves, activator: Activator, at: TopicPartition) {
    let Some(course) = Course::of(&moves.metadata.image(), at) else { return };
    let begun = Instant::now();
    let mut carrier = Carrier::new(Duration::ZERO, course);
    let mut images = moves.metadata.watch();
    let mut said: Option<String> = None;
    let mut under_way = JoinSet::new();
    loop {
        while let Some(effect) = carrier.poll_effect() {
            let (moves, activator) = (moves.clone(), activator.clone());
            under_way.spawn(act(moves, activator, carrier.course().clone(), effect));
        }
        let newest = Course::of(&images.borrow_and_update(), at);
        let Some(newest) = newest.filter(|now| now.is_same_move(carrier.course())) else { return };
        if carrier.is_over() || !moves.leads_meta() {
            return;
        }
        carrier.handle_course(newest);
        // Once for each reason; it may last.
        if carrier.stuck().is_some_and(|why| said.as_deref() != Some(why)) {
            said = carrier.stuck().map(ToOwned::to_owned);
            let (to, why) = (&carrier.course().aim.to, said.as_deref().unwrap_or_default());
            tracing::warn!(node = %moves.node, partition = %at, %to, why, "a home is not moved yet");
        }
        let timeout = carrier.poll_timeout().map(|timeout| begun + timeout);
        tokio::select! {
            Some(answer) = under_way.join_next() => match answer {
                Ok(answer) => take(&mut carrier, begun.elapsed(), answer),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = reached(timeout) => carrier.handle_timeout(begun.elapsed()),
            changed = images.changed() => if changed.is_err() { return },
        }
    }
}

async fn reached(timeout: Option<Instant>) {
    match timeout {
        Some(timeout) => tokio::time::sleep_until(timeout).await,
        None => std::future::pending().await,
    }
}

fn take(carrier: &mut Carrier, now: Duration, answer: Answer) {
    let why = |error: Error| error.to_string();
    match answer {
        Answer::HandedOff(of, done) => carrier.handle_handed_off(now, of, done.map_err(why)),
        Answer::Sealed(of, replica, seal) => {
            carrier.handle_sealed(now, of, replica, seal.map_err(why));
        }
        Answer::Chosen(of, done) => carrier.handle_chosen(now, of, done.map_err(why)),
        Answer::Held(of, replica, held) => {
            carrier.handle_held(now, of, replica, held.map_err(why));
        }
        Answer::LeasesOver(of, done) => carrier.handle_leases_over(now, of, done.map_err(why)),
        Answer::Activated(of, done) => carrier.handle_activated(now, of, done.map_err(why)),
        Answer::GivenUp(done) => {
            if let Err(error) = done {
                tracing::warn!(%error, "a switchover could not be given up yet; it is tried again");
            }
        }
    }
}

async fn act(moves: Moves, activator: Activator, course: Course, effect: Effect) -> Answer {
    let (at, next) = (course.at, course.next);
    match effect {
        Effect::HandOff(of) => Answer::HandedOff(of, hand_off(&moves, &course).await),
        Effect::Seal { attempt, replica, node, when } => {
            let seal = seal(&moves, at, next, (node, when)).await;
            Answer::Sealed(attempt, (replica, node), seal)
        }
        Effect::Choose(of, choice) => {
            let request = Request::ChooseCuts { choices: vec![*choice] };
            Answer::Chosen(of, chosen(moves.metadata.submit(request, CHOOSE_TIMEOUT).await))
        }
        Effect::Hold { attempt, replica, node, fork, source } => {
            let held = if node == moves.node {
                hold::here(&moves, at, &fork, source).await
            } else {
                let body = wire::ask(at, next, Ask::Hold { fork, source });
                let held = moves.transport.call(node, method::HOLD, body, HOLD_WAIT).await;
                held.map_err(Error::from).and_then(|held| Ok(wire::receive_held(held)?))
            };
            Answer::Held(attempt, replica, held)
        }
        Effect::WaitForLeases(of, wait) => {
            let done = moves.office.leases_over(wait).await;
            Answer::LeasesOver(of, done.then_some(()).ok_or(Error::NotLeading))
        }
        Effect::Activate(of, activation) => {
            let activation = Activation { ended_ms: now_ms(), ..*activation };
            let (cut, verdict) = (activation.fork.at.offset, activation.verdict);
            let done = activator.activate(activation).await;
            if done.is_ok() {
                tracing::warn!(
                    partition = %at, from = %course.placed.home, to = %course.aim.to,
                    home_epoch = %next, %cut, ?verdict, "a home has moved"
                );
            }
            Answer::Activated(of, done)
        }
        Effect::GiveUp => Answer::GivenUp(give_up(&moves, &course).await),
    }
}

fn chosen(answer: Result<Response, service::Error>) -> Result<(), Error> {
    match answer? {
        Response::CutsChosen(mut results) => {
            Ok(results.remove(0).map_err(service::Error::Refused)?)
        }
        other => panic!("a cut was to be chosen, and {other:?} came back"),
    }
}

async fn seal(
    moves: &Moves,
    at: TopicPartition,
    epoch: HomeEpoch,
    (node, when): (NodeId, When),
) -> Result<Seal, Error> {
    let answer = if node == moves.node {
        wire::sealed(&seal::here(moves, at, epoch, when).await?)
    } else {
        let body = wire::ask(at, epoch, Ask::Seal(when));
        moves.transport.call(node, method::SEAL, body, SEAL_WAIT).await?
    };
    Ok(wire::receive_sealed(answer)?)
}

/// Has the leader stop for good, with everything on a majority of the next home's disks (R18).
async fn hand_off(moves: &Moves, course: &Course) -> Result<(), Error> {
    let leader = moves.replicas.leaders().of(course.at).ok_or(Error::NoLeader)?.node;
    let (to, timeout) = (course.aim.to.clone(), HAND_OFF_TIMEOUT);
    if leader == moves.node {
        moves.orders.hand_off(course.at, (course.next, to), timeout).await?;
    } else {
        let body = wire::ask(course.at, course.next, Ask::HandOff { to, timeout });
        moves.transport.call(leader, method::HAND_OFF, body, timeout).await?;
    }
    Ok(())
}

/// Lets the home stay where it is, in the next epoch: the one that it was in has ended.
async fn give_up(moves: &Moves, course: &Course) -> Result<(), Error> {
    let (to, home_epoch) = (course.placed.home.clone(), course.placed.home_epoch);
    tracing::warn!(
        partition = %course.at, home = %to, target = %course.aim.to,
        "a switchover is given up: the home stays where it was"
    );
    let aim = Aim { kind: Kind::Failover, to, ..course.aim.clone() };
    let begin = Begin { at: course.at, home_epoch, aim };
    moves.metadata.submit(Request::MoveHomes { moves: vec![begin] }, HAND_OFF_TIMEOUT).await?;
    Ok(())
}
