//! A seed's history as lines, for whoever looks for the cause of a find:
//! `ISOBAR_SIM_SHOW=1 ISOBAR_SIM_SEED=7 cargo test --release --test sim 2> history`.

use std::sync::OnceLock;

use isobar::log::Write;
use isobar::model::batch::Header;
use isobar::replica::wire::Envelope;
use isobar_transport::Frame;

use crate::calls::{Answer, Answered, Ask, Call};
use crate::client::{Asker, Request, Response};
use crate::scenario::Micros;

pub fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("ISOBAR_SIM_SHOW").is_some())
}

pub fn line(now: Micros, node: usize, what: impl FnOnce() -> String) {
    if is_on() {
        eprintln!("{:.6} n{} {}", now as f64 / 1e6, node + 1, what());
    }
}

pub fn write(now: Micros, node: usize, write: &Write) {
    line(now, node, || {
        let entries: Vec<_> = write.entries.iter().map(|e| (e.index.0, e.term.0)).collect();
        format!(
            "p{} writes: state {:?} reset {:?} cut {:?} start {:?} entries {entries:?}",
            write.partition.partition,
            write.state.as_ref().map(|s| (s.term, s.vote)),
            write.reset,
            write.truncate_from,
            write.start,
        )
    });
}

pub fn request(now: Micros, node: usize, request: &Request) {
    let Request { asker: Asker::Producer(client), attempt, partition, batches, .. } = request
    else {
        return;
    };
    line(now, node, || {
        let batches = batches.iter().map(|b| Header::parse(b).expect("a batch of ours"));
        let sequences: Vec<_> = batches.map(|b| (b.base_sequence, b.last_sequence())).collect();
        let p = partition.partition;
        format!("p{p} is asked by producer {client}, attempt {attempt}: {sequences:?}")
    });
}

pub fn response(now: Micros, client: usize, attempt: u64, response: &Response) {
    if is_on() {
        eprintln!("{:.6} producer {client} hears of {attempt}: {response:?}", now as f64 / 1e6);
    }
}

pub fn answer(now: Micros, call: &Call, answer: &Answered) {
    line(now, call.to, || {
        let (p, to, epoch) = (call.at.partition, call.from + 1, call.epoch);
        let asked = match &call.ask {
            Ask::Hold { source, .. } => format!("hold what {source} has"),
            asked => format!("{asked:?}"),
        };
        let answer = match answer {
            Ok(Answer::Range(bytes)) => format!("{} bytes", bytes.len()),
            answer => format!("{answer:?}"),
        };
        format!("p{p} answers n{to}, {epoch} {asked}: {answer}")
    });
}

pub fn frame(now: Micros, from: usize, to: usize, frame: &Frame) {
    if !is_on() {
        return;
    }
    let envelope = Envelope::from_header(frame.header.clone()).expect("a frame of ours");
    let mut chunks = frame.payloads.clone().into();
    for group in envelope.groups {
        let received = group.receive(&mut chunks).expect("a frame of ours");
        let partition = received.group.partition.partition;
        let Some(m) = received.raft else { continue };
        let entries: Vec<_> = m.entries.iter().map(|e| (e.index, e.term)).collect();
        line(now, from, || {
            format!(
                "p{partition} to n{}: {:?} term {} at {}@{} commit {} reject {} {} entries {entries:?}",
                to + 1,
                m.get_msg_type(),
                m.term,
                m.index,
                m.log_term,
                m.commit,
                m.reject,
                m.reject_hint,
            )
        });
    }
}
