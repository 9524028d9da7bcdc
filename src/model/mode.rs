//! The mode of a sync topic's partition.

/// What acknowledgements of a partition of a sync topic wait for at present, and the number of that
/// decision. `__meta` and the partition's own log each have one (R7, R8).
///
/// On an async topic nothing is ever changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, PartialOrd, Ord)]
pub struct Mode {
    /// Grows with every change, in all home epochs; the larger one is the later one.
    pub sid: u64,
    /// They wait for the home alone.
    pub degraded: bool,
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.degraded { "degraded" } else { "sync" };
        write!(f, "{word} ({})", self.sid)
    }
}
