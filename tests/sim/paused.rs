//! What runs on tokio, in simulated time: a runtime whose clock stands still until all that is ready has run.

use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

/// Between the tasks and whoever stands outside.
pub type Shared<T> = Arc<Mutex<T>>;

pub fn locked<T>(shared: &Shared<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("no panic while held")
}

/// With the time at which it begins.
pub fn runtime() -> (Runtime, Instant) {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // By numbers of polls, and so by what nobody sees.
        .event_interval(u32::MAX)
        .global_queue_interval(u32::MAX)
        .build()
        .expect("a runtime");
    let begun = runtime.block_on(async { Instant::now() });
    (runtime, begun)
}
