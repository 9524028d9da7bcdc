//! Faults that wait for their moment: what they take away is there for a millisecond at a time, and
//! a fault that comes at any time hardly ever meets it.
//!
//! ```text
//! a vote has left        the voter dies with its machine and is back before the others have given
//!                        up waiting: does it know that it has voted (Raft §5.2)?
//! a leader is elected    it is stopped, cut off or sent away within a fraction of a second, so that
//!                        leaders follow each other with entries of each that not all have (§5.4.2)
//! ```

use rand::Rng;

use crate::event::Event;
use crate::scenario::{MILLI, NODES_PER_DC, SECOND, dc_of};
use crate::world::World;

/// What a node has just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Voted,
    Elected,
}

impl World {
    /// A node has come to a moment; in some scenarios a fault follows, now and then.
    pub fn aim(&mut self, node: usize, moment: Moment) {
        let aims = self.scenario.aims;
        let share = if moment == Moment::Voted { aims.at_vote } else { aims.at_election };
        if self.healed || share == 0.0 || !self.rng.gen_bool(share) {
            return;
        }
        // A frame within a DC takes 250 µs: what was said is lost with the machine, or has arrived.
        let delay = match moment {
            Moment::Voted if self.rng.gen_bool(0.5) => 0,
            Moment::Voted => self.rng.gen_range(0..MILLI),
            Moment::Elected => self.rng.gen_range(0..300 * MILLI),
        };
        let life = self.nodes[node].life;
        self.after(delay, Event::Aimed(node, life, moment));
    }

    pub fn hit(&mut self, node: usize, life: u64, moment: Moment) {
        if self.healed || self.alive(node, life).is_none() {
            return;
        }
        let name = match moment {
            Moment::Voted => {
                let power = self.rng.gen_bool(0.7);
                self.bounce(node, power);
                "ends after a vote"
            }
            Moment::Elected => {
                self.end_leadership(node);
                "ends of a new leader"
            }
        };
        *self.faults.entry(name).or_default() += 1;
        self.trace.note((self.now, name));
    }

    fn end_leadership(&mut self, node: usize) {
        let dc = dc_of(node);
        let until = self.rng.gen_range(300 * MILLI..3 * SECOND);
        match self.rng.gen_range(0..4) {
            0 => self.send_away(node),
            1 => self.bounce(node, true),
            // The others vote for a new one; what it appended is still carried to other DCs.
            2 => self.part(node, dc, until),
            _ => {
                let other = (dc + self.rng.gen_range(1..3)) % 3;
                self.part(node, other, until);
            }
        }
    }

    /// Back before an election timeout is over.
    fn bounce(&mut self, node: usize, power: bool) {
        let back = self.rng.gen_range(10 * MILLI..400 * MILLI);
        self.end_process(node, power, Some(back));
    }

    /// Cuts a node from all others in a DC, both ways.
    fn part(&mut self, node: usize, dc: usize, until: u64) {
        let others = (dc * NODES_PER_DC..(dc + 1) * NODES_PER_DC).filter(|other| *other != node);
        let pairs = others.flat_map(|other| [(node, other), (other, node)]).collect();
        self.cut_for(pairs, until);
    }
}
