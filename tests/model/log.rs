//! A log as the models see it: entries that are a term and a value, packed into one word, because a
//! checker spends its time in cloning and hashing states.

use std::fmt;

/// A term as (home epoch, election): what the product has as `e << 17 | election`.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub u8);

/// Elections of a home epoch in the models; the walks draw no more than seven.
const ELECTIONS: u8 = 8;

impl Term {
    pub const fn new(epoch: u8, election: u8) -> Self {
        assert!(election < ELECTIONS, "an election counter that ran out of its epoch");
        Self(epoch * ELECTIONS + election)
    }

    pub const fn epoch(self) -> u8 {
        self.0 / ELECTIONS
    }

    pub const fn election(self) -> u8 {
        self.0 % ELECTIONS
    }

    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch(), self.election())
    }
}

/// `value` 0 is an entry of Raft's own: the empty one of a new term.
#[derive(Clone, Copy, Debug, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub term: Term,
    pub value: u8,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value == 0 {
            write!(f, "empty@{}", self.term)
        } else {
            write!(f, "{}@{}", self.value, self.term)
        }
    }
}

/// At most [`Log::CAPACITY`] entries; index 1 is the first, as in Raft.
#[derive(Clone, Copy, Default, Hash, PartialEq, Eq, PartialOrd, Ord)]
pub struct Log {
    len: u8,
    bits: u128,
}

const ENTRY_BITS: usize = 12;
const VALUE_BITS: usize = 4;

impl Log {
    pub const CAPACITY: usize = 128 / ENTRY_BITS;

    pub const fn len(&self) -> u8 {
        self.len
    }

    pub fn is_full(&self) -> bool {
        usize::from(self.len) == Self::CAPACITY
    }

    pub fn push(&mut self, entry: Entry) {
        assert!(!self.is_full() && entry.value < 1 << VALUE_BITS, "a bound that no log holds");
        let bits = u128::from(entry.term.0) << VALUE_BITS | u128::from(entry.value);
        self.bits |= bits << (usize::from(self.len) * ENTRY_BITS);
        self.len += 1;
    }

    /// The entry at a log index; none at 0 or beyond the end.
    pub fn get(&self, index: u8) -> Option<Entry> {
        if index == 0 || index > self.len {
            return None;
        }
        let bits = self.bits >> (usize::from(index - 1) * ENTRY_BITS);
        let term = (bits >> VALUE_BITS) & 0xff;
        let value = bits & ((1 << VALUE_BITS) - 1);
        Some(Entry { term: Term(term as u8), value: value as u8 })
    }

    /// Entries with their indices.
    pub fn iter(&self) -> impl Iterator<Item = (u8, Entry)> + '_ {
        (1..=self.len).map(|index| (index, self.get(index).expect("within the log")))
    }

    pub fn last_term(&self) -> Term {
        self.get(self.len).map_or(Term(0), |entry| entry.term)
    }

    /// What is compared when one log is to be *the furthest*: term before index (R12).
    pub fn last(&self) -> (Term, u8) {
        (self.last_term(), self.len)
    }

    pub fn prefix(&self, len: u8) -> Self {
        let len = len.min(self.len);
        let mask = (1u128 << (usize::from(len) * ENTRY_BITS)) - 1;
        Self { len, bits: self.bits & mask }
    }

    pub fn starts_with(&self, other: &Self) -> bool {
        self.prefix(other.len) == *other
    }

    /// How many first entries have equal terms: what two replicas can compare, and all they need
    /// while (term, index) names one entry.
    pub fn common(&self, other: &Self) -> u8 {
        let pairs = self.iter().zip(other.iter());
        pairs.take_while(|((_, a), (_, b))| a.term == b.term).count() as u8
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.iter().map(|(_, entry)| entry.to_string()).collect();
        write!(f, "[{}]", entries.join(" "))
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
