//! Term and vote are on disk before anything that follows from them is sent: a replica never comes
//! back with an older term than it spoke of, and never gives two votes in one term.

use raft::eraftpb::{Message, MessageType};

use super::{Violation, hold, n};
use crate::oracle::Replica;

const RULE: (&str, &str) = ("term and vote never go back", "Raft §5.1, §5.2; design §3");

/// A message leaves; `true` if it is a vote. A pre-vote carries the term that its sender would like
/// to have.
pub fn note(node: usize, replica: &mut Replica, message: &Message) -> Result<bool, Violation> {
    let voted = match message.get_msg_type() {
        MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse => {
            return Ok(false);
        }
        MessageType::MsgRequestVote => Some(message.from),
        MessageType::MsgRequestVoteResponse if !message.reject => Some(message.to),
        _ => None,
    };
    if let Some(to) = voted {
        vote(node, replica, message.term, to)?;
    }
    replica.term_sent = replica.term_sent.max(message.term);
    Ok(voted.is_some())
}

fn vote(node: usize, replica: &mut Replica, term: u64, to: u64) -> Result<(), Violation> {
    let known = *replica.votes.entry(term).or_insert(to);
    hold(known == to, RULE, || {
        format!("{} votes for {to} in term {term}, and has voted for {known}", n(node))
    })
}

pub fn check_restart(node: usize, sent: u64, found: u64) -> Result<(), Violation> {
    hold(found >= sent, RULE, || {
        format!("{} came back in term {found}, and had spoken of term {sent}", n(node))
    })
}
