//! A seed's history as lines, for whoever looks for the cause of a find:
//! `ISOBAR_SIM_SHOW=1 ISOBAR_SIM_SEED=7 cargo test --release --test sim 2> history`.

use std::sync::OnceLock;

use isobar::log::Write;
use isobar::replica::wire::Envelope;
use isobar_transport::Frame;

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
