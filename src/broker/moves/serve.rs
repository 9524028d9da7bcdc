//! A node's side: what the one that carries a move asks of the replicas here.

use bytes::Bytes;
use isobar_transport::RpcError;

use super::wire::{self, Asked};
use super::{Error, Moves, hold, seal};
use crate::broker::inbound::{Answer, Switch, method};
use crate::model::{LogIndex, TopicPartition};

/// Why a call was refused, for the caller's log.
mod code {
    pub const MALFORMED: u16 = 1;
    pub const REFUSED: u16 = 2;
}

/// Takes up the methods of a move.
pub fn take_up(moves: &Moves, switch: &Switch) {
    switch.take_up(
        method::SEAL,
        answer(moves, |moves, asked| async move {
            Ok(wire::sealed(&seal::here(&moves, asked.at, asked.epoch, asked.when()).await?))
        }),
    );
    switch.take_up(
        method::HOLD,
        answer(moves, |moves, asked| async move {
            let at = asked.at;
            let (fork, source) = asked.hold()?;
            Ok(wire::held(hold::here(&moves, at, &fork, source).await?))
        }),
    );
    switch.take_up(
        method::HAND_OFF,
        answer(moves, |moves, asked| async move {
            let (at, next) = (asked.at, asked.epoch);
            let (to, timeout) = asked.hand_off()?;
            moves.orders.hand_off(at, (next, to), timeout).await?;
            Ok(Bytes::new())
        }),
    );
    switch.take_up(
        method::SEALED_RANGE,
        answer(moves, |moves, asked| async move {
            // Only of a log that nobody appends to any more, in the epoch that is asked about.
            moves.mover.seal(asked.at, asked.epoch).await?;
            let (from, to) = asked.range();
            let view = moves.replicas.view(asked.at).ok_or(RpcError::Malformed)?;
            let read = move || view.sealed_range(LogIndex(from), LogIndex(to));
            let read = tokio::task::spawn_blocking(read).await.map_err(|_| RpcError::ShutDown)?;
            Ok(read.map_err(crate::replica::driver::Refused::Log)?)
        }),
    );
}

fn answer<F>(moves: &Moves, serve: fn(Moves, Asked) -> F) -> Answer
where
    F: Future<Output = Result<Bytes, Error>> + Send + 'static,
{
    let moves = moves.clone();
    Box::new(move |from, body| {
        let moves = moves.clone();
        Box::pin(async move {
            let asked = Asked::receive(body).map_err(|error| refused(code::MALFORMED, &error))?;
            let at = asked.at;
            check(&moves, &asked)?;
            serve(moves, asked).await.map_err(|error| {
                tracing::debug!(%from, partition = %at, %error, "a step of a move was refused");
                refused(code::REFUSED, &error)
            })
        })
    })
}

/// What is asked about an epoch far ahead of the image here is answered when the image has caught up.
fn check(moves: &Moves, asked: &Asked) -> Result<(), RpcError> {
    let image = moves.metadata.image();
    let here = image.partition(asked.at);
    let is_near = here.is_some_and(|placed| placed.may_promise(asked.epoch));
    if is_near && asked.at != TopicPartition::META {
        return Ok(());
    }
    let (at, epoch, here) = (asked.at, asked.epoch, here.map(|placed| placed.home_epoch));
    Err(refused(code::REFUSED, &format!("home epoch {epoch} of {at}: here it is {here:?}")))
}

fn refused(code: u16, why: &dyn std::fmt::Display) -> RpcError {
    RpcError::Refused { code, message: why.to_string() }
}
