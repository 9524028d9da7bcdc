//! What members of a group do next, and what they make of what they hear. Some freeze for longer than their session
//! lasts and go on as if nothing had been, some are replaced by another process, some leave.

use isobar::coordinator::group::Error;
use isobar::model::LeaderEpoch;
use rand::Rng;

use super::consumer::{Asked, Consumer, Reading, commit, fetch};
use super::member::{BEAT_EVERY, Stage};
use super::team::Team;
use super::{Answer, Ask, Counts};
use crate::invariants::Violation;
use crate::invariants::fenced::Owner;
use crate::oracle::History;
use crate::scenario::{Micros, SECOND};
use crate::world::World;

/// What a member does of itself, each about once a minute.
enum Incident {
    Freezes(Micros),
    IsReplaced(Micros),
    Leaves,
}

/// An answer that a process hears, of what it asked at `sent`.
pub struct Said {
    pub process: usize,
    pub sent: Micros,
    pub epoch: Option<LeaderEpoch>,
    /// When it left the node.
    pub at: Micros,
}

impl World {
    /// A member does what comes next.
    pub fn attend(&mut self, index: usize, closing: bool, draw: u32) {
        let incident = match self.rng.gen_range(0..600) {
            0..4 => Some(Incident::Freezes(self.rng.gen_range(2 * SECOND..15 * SECOND))),
            4..8 => Some(Incident::IsReplaced(self.rng.gen_range(SECOND..10 * SECOND))),
            8..10 => Some(Incident::Leaves),
            _ => None,
        };
        let (beats_in, now) = (self.rng.gen_range(0..BEAT_EVERY), self.now);
        let (consumer, team) = self.consumer(index);
        let runs = now <= consumer.stops;
        let member = consumer.member.as_mut().expect("a member");
        if now < member.away || member.ends.is_some_and(|ends| now >= ends) {
            return;
        }
        match incident.filter(|_| runs) {
            Some(Incident::Freezes(lasts)) => {
                member.away = now + lasts;
                // It may commit before it hears that it is a member no longer.
                member.beats_at = member.away + beats_in;
                return consumer.disconnect();
            }
            Some(Incident::IsReplaced(lasts)) => {
                member.begin_anew();
                member.away = now + lasts;
                consumer.readings.clear();
                return consumer.disconnect();
            }
            Some(Incident::Leaves) if member.generation().is_some() => member.leaves = true,
            Some(Incident::Leaves) | None => {}
        }
        if consumer.is_free()
            && let Some((ask, asked)) = next(consumer, team, (now, closing, runs))
        {
            return self.ask_coordinator(index, |_, _| (ask, asked));
        }
        let owned: Vec<usize> = self.owned(index).collect();
        for partition in owned {
            if runs && !self.consumer(index).0.readings[&partition].begins {
                self.read_on(index, partition);
            }
        }
        let (consumer, _) = self.consumer(index);
        let read = consumer.readings.iter().filter(|(_, reading)| reading.has_read());
        let read: Vec<usize> = read.map(|(partition, _)| *partition).collect();
        if runs && draw < 40 && consumer.is_free() && !read.is_empty() {
            let partition = read[draw as usize % read.len()];
            self.ask_coordinator(index, |consumer, team| commit(team, consumer, partition));
        }
    }

    fn owned(&mut self, index: usize) -> impl Iterator<Item = usize> {
        let (consumer, _) = self.consumer(index);
        let owns = consumer.member.as_ref().is_some_and(|m| m.generation().is_some());
        consumer.readings.keys().copied().filter(move |_| owns)
    }
}

/// What it must ask before it reads on, if anything.
fn next(
    consumer: &mut Consumer,
    team: &mut Team,
    (now, closing, runs): (Micros, bool, bool),
) -> Option<(Ask, Asked)> {
    let member = consumer.member.as_mut().expect("a member");
    if std::mem::take(&mut member.leaves) {
        let ask = Ask::Leave(member.leave(&team.id));
        member.begin_anew();
        member.away = now + BEAT_EVERY;
        consumer.readings.clear();
        return Some((ask, Asked::Leave));
    }
    match &member.stage {
        Stage::Out => {
            // Nobody reads on while it joins.
            consumer.readings.clear();
            Some((Ask::Join(member.join(&team.id)), Asked::Join))
        }
        Stage::Joined { generation, parts } => {
            let sync = member.sync(&team.id, *generation, parts);
            Some((Ask::Sync(sync), Asked::Sync(*generation)))
        }
        Stage::Owns { generation } if now >= member.beats_at => {
            let beat = member.heartbeat(&team.id, *generation);
            member.beats_at = now + BEAT_EVERY;
            Some((Ask::Heartbeat(beat), Asked::Beat))
        }
        Stage::Owns { .. } => {
            let of = |(partition, reading): (&usize, &Reading)| {
                let is_last = closing && team.tracks[partition].last.is_none();
                (is_last || runs && reading.begins).then_some(*partition)
            };
            let partition = consumer.readings.iter().find_map(of)?;
            Some(fetch(team, partition))
        }
    }
}

impl Said {
    pub fn hear(
        self,
        (consumer, team, counts): (&mut Consumer, &mut Team, &mut Counts),
        (history, partitions): (&History, usize),
        (answer, asked): (Answer, Asked),
    ) -> Result<(), Violation> {
        let Self { process, sent, epoch, at } = self;
        let Some(member) = &mut consumer.member else {
            return alone(consumer, answer, asked);
        };
        match (answer, asked) {
            (Answer::Joined(Ok(joined)), Asked::Join) => {
                if let Some(epoch) = epoch {
                    let of = (joined.generation, sent, epoch);
                    team.told.check_grows(history, &team.id, of)?;
                }
                member.handle_joined(joined, partitions);
            }
            (Answer::Joined(Err(refused)), Asked::Join) => {
                if refused.error == Error::MemberIdRequired {
                    member.id = refused.member_id;
                } else {
                    heed(consumer, refused.error);
                }
            }
            (Answer::Synced(Ok(synced)), Asked::Sync(generation)) => {
                let owned = member.handle_synced(generation, &synced.assignment);
                let readings = owned.iter().map(|partition| (*partition, Reading::new()));
                consumer.readings = readings.collect();
                counts.add("synced");
                if let Some(epoch) = epoch {
                    let owner = Owner { process, generation, partitions: owned, epoch, at };
                    team.told.add(history, &team.id, owner)?;
                }
            }
            (Answer::Beat(Ok(())), Asked::Beat) | (Answer::Left, Asked::Leave) => {}
            (Answer::Fetched(Err(error)), _) => {
                assert!(heed(consumer, error), "a fetch was refused with {error}");
            }
            (Answer::Committed(Err(error)), Asked::Commit(..)) => {
                let is_fenced = !heed(consumer, error);
                counts.add(if is_fenced { "fenced" } else { "not committed" });
            }
            (Answer::Synced(Err(error)) | Answer::Beat(Err(error)), _) => {
                heed(consumer, error);
            }
            (answer, asked) => unreachable!("{asked:?} was answered with {answer:?}"),
        }
        Ok(())
    }
}

/// `true`: it is asked again, elsewhere.
fn heed(consumer: &mut Consumer, error: Error) -> bool {
    let elsewhere = consumer.member.as_mut().expect("a member").handle_refused(error);
    if elsewhere {
        consumer.disconnect();
    }
    elsewhere
}

/// Who shares its group with nobody is refused for want of a coordinator alone.
fn alone(consumer: &mut Consumer, answer: Answer, asked: Asked) -> Result<(), Violation> {
    match answer {
        Answer::Committed(Err(_)) | Answer::Fetched(Err(_)) => consumer.disconnect(),
        answer => unreachable!("{asked:?} was answered with {answer:?}"),
    }
    Ok(())
}
