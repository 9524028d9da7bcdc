//! What happened, as one number: two runs of a seed must give the same.

use std::hash::{DefaultHasher, Hash, Hasher};

#[derive(Debug, Default)]
pub struct Trace {
    hasher: DefaultHasher,
    pub events: u64,
}

impl Trace {
    pub fn note(&mut self, what: impl Hash) {
        what.hash(&mut self.hasher);
        self.events += 1;
    }

    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }
}
