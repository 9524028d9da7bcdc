//! The house rules that can be read off the files. Each finding says where, which rule, and how to
//! mend it; the tables that people extend stand in `rooms.rs` and `purity.rs`.
//!
//! A line that has to break a line rule says why: `// tidy: the reason`, on the line or above it.
//! Each rule's own module feeds it broken files, so that a rule that sees nothing fails too.

mod docs;
mod purity;
mod rooms;
mod shape;
mod source;

use std::path::Path;

use source::{Finding, Source};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn each(rule: fn(&Source) -> Vec<Finding>) -> Vec<Finding> {
    source::read_all(top()).iter().flat_map(rule).collect()
}

#[track_caller]
fn hold(mut findings: Vec<Finding>) {
    findings.sort();
    let lines: Vec<String> = findings
        .iter()
        .map(|Finding { path, line, rule, mend }| format!("{path}:{line}: {rule}: {mend}"))
        .collect();
    assert!(lines.is_empty(), "{} to mend:\n{}\n", lines.len(), lines.join("\n"));
}

#[test]
fn imports_run_downwards() {
    hold(each(rooms::imports));
}

#[test]
fn cores_are_pure() {
    hold(each(purity::cores_are_pure));
    hold(purity::cores_are_where_the_list_says(&source::read_all(top())));
}

#[test]
fn files_are_short() {
    hold(each(shape::files_are_short));
}

#[test]
fn modules_open_with_their_story() {
    hold(each(shape::modules_open_with_their_story));
}

#[test]
fn nothing_is_left_unfinished() {
    hold(each(shape::nothing_is_left_unfinished));
}

#[test]
fn nobody_sleeps_for_luck() {
    hold(each(shape::nobody_sleeps_for_luck));
}

#[test]
fn the_top_level_is_fixed() {
    let names: Vec<String> = source::children(top())
        .iter()
        .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
        .collect();
    hold(shape::top_level_is_fixed(&names));
}

#[test]
fn links_lead_somewhere() {
    let exists = |path: &str| top().join(path).exists();
    hold(docs::links_lead_somewhere(&source::read_all(top()), exists));
}

#[test]
fn decisions_are_indexed() {
    hold(docs::decisions_are_indexed(&source::read_all(top())));
}
