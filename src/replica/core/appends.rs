//! Appends of a bounded size.
//!
//! raft-rs limits what it adds to an append at a time, and adds on as long as the append has not
//! left (`batch_append`): a follower that was away for a moment is sent all that it lacks as one
//! message, which the transport refuses when it is too large. So what leaves is cut again.

use raft::eraftpb::{Entry, Message};

use super::raft_log::cost;

/// `append` as messages of at most `bytes_max` each, or of one entry.
pub(super) fn split(mut append: Message, bytes_max: u64) -> Vec<Message> {
    let fits = append.entries.iter().map(|e| cost(e) as u64).sum::<u64>() <= bytes_max;
    if fits || append.entries.len() < 2 {
        return vec![append];
    }
    let entries: Vec<Entry> = append.take_entries().into();
    let mut parts: Vec<Message> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let cost = cost(&entry) as u64;
        bytes += cost;
        match parts.last_mut() {
            Some(part) if bytes <= bytes_max => part.entries.push(entry),
            last => {
                bytes = cost;
                let mut next = append.clone();
                if let Some(before) = last.and_then(|part| part.entries.last()) {
                    (next.index, next.log_term) = (before.index, before.term);
                }
                next.entries.push(entry);
                parts.push(next);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::core::raft_log::ENTRY_OVERHEAD_BYTES;

    /// Entries from 8 on, in terms and of sizes.
    fn append(entries: &[(u64, usize)]) -> Message {
        let mut message = Message::default();
        (message.index, message.log_term, message.commit, message.to) = (7, 2, 5, 3);
        for (n, (term, bytes)) in entries.iter().enumerate() {
            let mut entry = Entry::default();
            (entry.index, entry.term) = (8 + n as u64, *term);
            entry.data = vec![0; *bytes - ENTRY_OVERHEAD_BYTES].into();
            message.entries.push(entry);
        }
        message
    }

    /// Of each part: index and term before it, and its entries.
    fn shape(parts: &[Message]) -> Vec<(u64, u64, Vec<u64>)> {
        let indexes = |m: &Message| m.entries.iter().map(|e| e.index).collect();
        parts.iter().map(|m| (m.index, m.log_term, indexes(m))).collect()
    }

    #[test]
    fn an_append_above_the_bound_leaves_as_several_that_continue_each_other() {
        let parts = split(append(&[(2, 400), (3, 400), (3, 400), (4, 1_500), (5, 200)]), 1_000);
        let expected = [(7, 2, vec![8, 9]), (9, 3, vec![10]), (10, 3, vec![11]), (11, 4, vec![12])];
        assert_eq!(shape(&parts), expected);
        assert!(parts.iter().all(|part| (part.commit, part.to) == (5, 3)));
    }

    #[test]
    fn an_append_within_the_bound_leaves_as_it_is() {
        for entries in [&[][..], &[(2, 5_000)], &[(2, 500), (2, 500)]] {
            let whole = append(entries);
            assert_eq!(split(whole.clone(), 1_000), [whole]);
        }
    }
}
