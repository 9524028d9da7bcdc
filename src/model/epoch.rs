//! Epochs: which home, which election, and Kafka's word for both together.
//!
//! ```text
//!  31 bits   | home epoch (14) | election (17) |      Kafka leader epoch = Raft term (R2)
//! ```
//!
//! The terms of home epoch e are `[e << 17, ((e + 1) << 17) - 1]`, so a (term, index) pair names
//! one entry for ever, across home moves too, and clients see a leader epoch that only grows.

use std::fmt;

/// Bits of a term that count elections within one home.
const ELECTION_BITS: u32 = 17;

/// Largest home epoch: 14 bits. Three moves a day last 14 years.
pub const HOME_EPOCH_MAX: u32 = (1 << 14) - 1;

/// Counts a partition's homes. The first home is 1; 0 means "none yet".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HomeEpoch(u32);

/// A Raft term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

/// Kafka's partition leader epoch: the Raft term as a signed 32-bit number.
pub type LeaderEpoch = i32;

impl HomeEpoch {
    pub const NONE: Self = Self(0);
    pub const FIRST: Self = Self(1);

    /// `None` above 14 bits.
    pub fn new(epoch: u32) -> Option<Self> {
        (epoch <= HOME_EPOCH_MAX).then_some(Self(epoch))
    }

    pub fn as_u32(self) -> u32 {
        self.0
    }

    /// The term at which this home's replicas start, before any election in it.
    pub fn first_term(self) -> Term {
        Term(u64::from(self.0) << ELECTION_BITS)
    }

    /// The last term that this home may use (R2).
    pub fn last_term(self) -> Term {
        Term(((u64::from(self.0) + 1) << ELECTION_BITS) - 1)
    }
}

impl Term {
    /// The home epoch in the term's high bits.
    ///
    /// # Panics
    /// On a term above 31 bits, which no home epoch can have written.
    pub fn home_epoch(self) -> HomeEpoch {
        let epoch = u32::try_from(self.0 >> ELECTION_BITS).expect("a term fits 31 bits");
        HomeEpoch::new(epoch).expect("a term fits 31 bits")
    }

    /// # Panics
    /// On a term above 31 bits.
    pub fn leader_epoch(self) -> LeaderEpoch {
        i32::try_from(self.0).expect("a term fits 31 bits")
    }

    /// Whether the term could have been written at all: at most 31 bits.
    pub fn is_valid(self) -> bool {
        self.0 <= i32::MAX as u64
    }
}

impl fmt::Display for HomeEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for HomeEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "e{}", self.0)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}.{}", self.0 >> ELECTION_BITS, self.0 & ((1 << ELECTION_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_of_successive_homes_are_disjoint_and_grow() {
        for e in [0, 1, 2, 77, HOME_EPOCH_MAX - 1] {
            let home = HomeEpoch::new(e).unwrap();
            let next = HomeEpoch::new(e + 1).unwrap();
            assert_eq!(home.last_term().0 + 1, next.first_term().0);
            assert_eq!(home.first_term().home_epoch(), home);
            assert_eq!(home.last_term().home_epoch(), home);
        }
    }

    #[test]
    fn the_last_term_of_the_last_home_is_the_last_leader_epoch() {
        let last = HomeEpoch::new(HOME_EPOCH_MAX).unwrap().last_term();
        assert_eq!(last.leader_epoch(), i32::MAX);
        assert_eq!(HomeEpoch::new(HOME_EPOCH_MAX + 1), None);
        assert!(!Term(last.0 + 1).is_valid());
    }
}
