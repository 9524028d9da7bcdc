//! The purgatory of fetches: a fetch that has too little to say waits until one of its partitions
//! moves, its time is up, or the node shuts down.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use tokio::sync::watch;
use tokio::time::Instant;

use super::super::super::listener::stopped;
use super::read::Read;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    Moved,
    /// Out of time, or at the end of the node.
    Over,
}

impl Woken {
    pub fn is_over(self) -> bool {
        self == Self::Over
    }
}

/// Waits for the first of the partitions to move on from where it was read.
pub(super) async fn any_moved(
    reads: &[Read],
    deadline: Instant,
    mut shutdown: watch::Receiver<bool>,
) -> Woken {
    let moves = reads.iter().filter_map(|read| read.seen.as_ref());
    let mut moves: Vec<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = moves
        .map(|(view, seen)| {
            Box::pin(view.moved_from(*seen)) as Pin<Box<dyn Future<Output = ()> + Send>>
        })
        .collect();
    let moved = std::future::poll_fn(|cx| {
        match moves.iter_mut().any(|moved| moved.as_mut().poll(cx).is_ready()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    });
    tokio::select! {
        () = moved => Woken::Moved,
        () = tokio::time::sleep_until(deadline) => Woken::Over,
        () = stopped(&mut shutdown) => Woken::Over,
    }
}
