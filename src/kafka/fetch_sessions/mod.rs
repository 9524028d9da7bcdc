//! Incremental fetch sessions (KIP-227): a consumer of many partitions names only what changed
//! since its last fetch, and is told only what changed since the last answer.
//!
//! A pure core: requests in, plans and answers out; ids come from a seed.
//!
//! ```text
//!   epoch −1 (final), 0 (initial) ─▶ a full fetch; 0 also opens a session, if there is room
//!   epoch n ≥ 1                   ─▶ must be the one that is due: 70 if the session is gone,
//!                                    71 if the epoch is another
//! ```
//!
//! Invariants: at most [`SESSIONS_MAX`] sessions with [`PARTITIONS_MAX`] partitions in all; a
//! session that cannot grow is dropped, and the client falls back to a full fetch; partitions that
//! had data go to the end of their session's order, so that a small `max_bytes` starves none.

mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::session::Session;
use crate::model::TopicId;

/// Kafka's `max.incremental.fetch.session.cache.slots`.
pub const SESSIONS_MAX: usize = 1000;

/// Partitions over all sessions of a node, some 200 bytes each: 40 MB.
pub const PARTITIONS_MAX: usize = 200_000;

/// A session that was not used for this long may make room for another: Kafka's
/// `min.incremental.fetch.session.eviction.ms`.
pub const EVICTION_MIN: Duration = Duration::from_secs(120);

/// The epoch that closes a session and fetches all.
const FINAL: i32 = -1;

/// The epoch that opens a session.
const INITIAL: i32 = 0;

/// How the request names its topics; a session sticks to one way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    Name(Arc<str>),
    Id(TopicId),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub topic: Topic,
    pub partition: i32,
}

/// What is wanted of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub key: Key,
    pub offset: i64,
    pub bytes_max: i32,
    /// −1: the client does not say.
    pub leader_epoch: i32,
    /// −1: the client does not say.
    pub last_fetched_epoch: i32,
}

/// A fetch as its session sees it.
#[derive(Debug, Clone)]
pub struct Request {
    pub session_id: i32,
    pub session_epoch: i32,
    pub wanted: Vec<Wanted>,
    pub forgotten: Vec<Key>,
    /// Versions 13 and above name topics by id.
    pub by_id: bool,
}

/// What a fetch is to read, and which session its answer belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// 0: none.
    pub session_id: i32,
    pub incremental: bool,
    pub wanted: Vec<Wanted>,
}

/// What an answer says of a partition, as far as a session cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub high_watermark: i64,
    pub log_start: i64,
    pub has_records: bool,
    /// An error, a preferred replica or a diverging epoch: said every time.
    pub is_notable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no fetch session of that id")]
    SessionNotFound,
    #[error("another epoch of the fetch session was due")]
    SessionEpoch,
    #[error("the fetch session names topics the other way")]
    TopicId,
}

/// The sessions of a node.
#[derive(Debug)]
pub struct Cache {
    sessions: BTreeMap<i32, Session>,
    partitions: usize,
    seed: u64,
    sessions_max: usize,
    partitions_max: usize,
}

impl Cache {
    /// Session ids follow from the seed; that they are hard to guess keeps clients out of each
    /// other's way, not more.
    pub fn new(seed: u64) -> Self {
        Self::bounded(seed, SESSIONS_MAX, PARTITIONS_MAX)
    }

    fn bounded(seed: u64, sessions_max: usize, partitions_max: usize) -> Self {
        Self { sessions: BTreeMap::new(), partitions: 0, seed, sessions_max, partitions_max }
    }

    /// Takes a request in, and says what it is to read. `now` is any clock that only grows.
    pub fn begin(&mut self, now: Duration, request: Request) -> Result<Plan, Error> {
        match request.session_epoch {
            FINAL | INITIAL => {
                self.remove(request.session_id);
                let opens = request.session_epoch == INITIAL;
                let session_id = if opens { self.open(now, &request) } else { 0 };
                Ok(Plan { session_id, incremental: false, wanted: request.wanted })
            }
            _ => self.go_on(now, request),
        }
    }

    fn go_on(&mut self, now: Duration, request: Request) -> Result<Plan, Error> {
        let id = request.session_id;
        let session = self.sessions.get_mut(&id).ok_or(Error::SessionNotFound)?;
        if session.next_epoch != request.session_epoch {
            return Err(Error::SessionEpoch);
        }
        if session.by_id != request.by_id {
            return Err(Error::TopicId);
        }
        let before = session.len();
        session.go_on(now, request.wanted, &request.forgotten);
        self.partitions = self.partitions - before + session.len();
        let wanted = session.wanted();
        if self.partitions > self.partitions_max {
            self.remove(id);
            return Err(Error::SessionNotFound);
        }
        Ok(Plan { session_id: id, incremental: true, wanted })
    }

    /// Takes in what the answer will say, partition by partition of `plan`, and tells which of
    /// them it must name.
    pub fn finish(&mut self, plan: &Plan, outcomes: &[Outcome]) -> Vec<bool> {
        assert_eq!(plan.wanted.len(), outcomes.len(), "an outcome for each partition");
        let session = self.sessions.get_mut(&plan.session_id);
        let mut named = vec![true; outcomes.len()];
        if let Some(session) = session {
            for ((wanted, outcome), named) in plan.wanted.iter().zip(outcomes).zip(&mut named) {
                let is_news = session.answered(&wanted.key, *outcome);
                *named = is_news || !plan.incremental;
            }
        }
        named
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Partitions over all sessions.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// Opens a session; 0 if there is no room for it.
    fn open(&mut self, now: Duration, request: &Request) -> i32 {
        let session = Session::new(now, request.by_id, &request.wanted);
        if session.len() == 0 || !self.make_room(now, session.len()) {
            return 0;
        }
        let id = self.new_id();
        self.partitions += session.len();
        self.sessions.insert(id, session);
        id
    }

    /// Drops what was not used for long, oldest first, until there is room.
    fn make_room(&mut self, now: Duration, partitions: usize) -> bool {
        while self.sessions.len() >= self.sessions_max
            || self.partitions + partitions > self.partitions_max
        {
            let oldest = self.sessions.iter().min_by_key(|(_, session)| session.used_at);
            match oldest {
                Some((&id, session)) if session.used_at + EVICTION_MIN <= now => self.remove(id),
                _ => return false,
            }
        }
        true
    }

    fn remove(&mut self, id: i32) {
        if let Some(session) = self.sessions.remove(&id) {
            self.partitions -= session.len();
        }
    }

    /// A positive id that is not taken: splitmix64 (Steele et al., OOPSLA 2014).
    fn new_id(&mut self) -> i32 {
        loop {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let id = ((z ^ (z >> 31)) & 0x7fff_ffff) as i32;
            if id != 0 && !self.sessions.contains_key(&id) {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests;
