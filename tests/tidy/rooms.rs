//! The rooms of the house and which way imports may run between them.
//!
//! Extend the tables here when a room or a core is added; the rules read nothing else.

use crate::source::{Finding, Source};

/// `src/`'s rooms from the bottom up. Rooms of one row are siblings: they never see each other.
const ROOMS: [&[&str]; 8] = [
    &["model"],
    &["log"],
    &["replica"],
    &["metadata"],
    &["coordinator"],
    &["admin", "kafka"],
    &["broker"],
    &["cli"],
];

/// The member crates, as a path prefix, their name in code, and the member crates they may see.
const MEMBERS: [(&str, &str, &[&str]); 2] = [
    ("topology/", "isobar_topology", &[]),
    ("transport/", "isobar_transport", &["isobar_topology"]),
];

const RULE: &str = "imports run downwards";

fn rank(room: &str) -> Option<usize> {
    ROOMS.iter().position(|row| row.contains(&room))
}

/// Imports that run upwards or sideways, and rooms that have no place yet.
pub fn imports(source: &Source) -> Vec<Finding> {
    if !source.is_rust() {
        return Vec::new();
    }
    match source.path.strip_prefix("src/") {
        Some(below) => imports_of_a_room(source, below),
        None => imports_of_a_member(source),
    }
}

fn imports_of_a_member(source: &Source) -> Vec<Finding> {
    let Some((_, own, allowed)) =
        MEMBERS.iter().find(|(prefix, ..)| source.path.starts_with(prefix))
    else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (line, text) in numbered(&source.code()) {
        for word in words(text) {
            let ours = word == "isobar" || MEMBERS.iter().any(|(_, name, _)| *name == word);
            if ours && word != *own && !allowed.contains(&word) {
                let mend = format!("`{own}` must not know `{word}`; hand in what it needs as data");
                found.push(source.finding(line, RULE, mend));
            }
        }
    }
    found
}

fn imports_of_a_room(source: &Source, below: &str) -> Vec<Finding> {
    let room = below.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    if ["lib", "main"].contains(&room) {
        return Vec::new();
    }
    let Some(own) = rank(room) else {
        let mend = format!("`{room}` is no room yet: give it its row in tests/tidy/rooms.rs");
        return vec![source.finding(0, RULE, mend)];
    };
    let seen = rooms_seen(&source.code(), module_depth(below));
    let upwards = seen.into_iter().filter(|(_, other)| {
        other != room && rank(other).is_some_and(|other_rank| other_rank >= own)
    });
    upwards
        .map(|(line, other)| {
            let mend = format!(
                "`{room}` must not see `{other}`: move the shared type down, or let `broker` hand \
                 it in"
            );
            source.finding(line, RULE, mend)
        })
        .collect()
}

/// How many `super`s lead from the file's own module to the crate's root.
fn module_depth(below: &str) -> usize {
    let parts = below.split('/').count();
    if below.ends_with("/mod.rs") { parts - 1 } else { parts }
}

/// Names that follow the crate's root in paths, with their lines: `crate::x`, `crate::{x::a, y}`,
/// and `super::…::x` where the `super`s reach the root.
fn rooms_seen(code: &str, depth: usize) -> Vec<(usize, String)> {
    let mut seen = Vec::new();
    let mut at = 0;
    while let Some((start, end)) = next_word(code, at) {
        at = end;
        let Some(mut rest) = code[end..].strip_prefix("::") else { continue };
        match &code[start..end] {
            "crate" => {}
            "super" if !code[..start].ends_with("super::") => {
                let mut supers = 1;
                while let Some(further) = rest.strip_prefix("super::") {
                    supers += 1;
                    rest = further;
                }
                // An inline module adds a level, so more `super`s than the file is deep are fine.
                if supers < depth {
                    continue;
                }
            }
            _ => continue,
        }
        let line = code[..code.len() - rest.len()].matches('\n').count() + 1;
        seen.extend(first_names(rest).into_iter().map(|(down, name)| (line + down, name)));
    }
    seen
}

/// The first name of each path of a use tree, with the number of line breaks before it.
fn first_names(tree: &str) -> Vec<(usize, String)> {
    let name = |from: &str| -> String {
        from.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = tree.strip_prefix('{') else { return vec![(0, name(tree))] };
    let mut names = Vec::new();
    let (mut depth, mut down, mut at_start) = (1, 0, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            '\n' => down += 1,
            ',' if depth == 1 => at_start = true,
            c if at_start && !c.is_whitespace() => {
                names.push((down, name(&group[at..])));
                at_start = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn next_word(code: &str, from: usize) -> Option<(usize, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let start = from + code[from..].find(is_word)?;
    let end = code[start..].find(|c| !is_word(c)).map_or(code.len(), |n| start + n);
    Some((start, end))
}

pub fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

pub fn numbered(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().map(|(at, line)| (at + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let source = Source { path: path.into(), text: text.into() };
        imports(&source).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn an_import_that_runs_up_or_sideways_is_found_in_every_spelling() {
        for text in [
            "use crate::kafka::x;",
            "use crate::{model::y, kafka};",
            "fn f(x: crate::kafka::Y) {}",
            "use super::kafka;",
            "mod tests { use super::super::kafka; }",
        ] {
            assert_eq!(lines("src/log/mod.rs", text), [1], "{text}");
            assert_eq!(lines("src/admin/mod.rs", text), [1], "{text}");
        }
        assert_eq!(lines("src/log/x.rs", "use super::super::kafka;"), [1]);
        assert_eq!(lines("src/log/x.rs", "use crate::{\n    model::{A, B},\n    cli,\n};"), [3]);
    }

    #[test]
    fn an_import_that_runs_down_is_fine() {
        for text in [
            "use crate::{log::{a, b}, model};",
            "use super::kafka; // a child of replica",
            "// use crate::kafka",
            "use crate::replica::kafka;",
        ] {
            assert_eq!(lines("src/replica/x.rs", text), [0; 0], "{text}");
        }
        assert_eq!(lines("src/broker/mod.rs", "use crate::{admin, kafka, log};"), [0; 0]);
    }

    #[test]
    fn the_member_crates_know_no_broker() {
        assert_eq!(lines("topology/src/lib.rs", "use isobar_transport::x;"), [1]);
        assert_eq!(lines("topology/src/lib.rs", "use isobar::x;"), [1]);
        assert_eq!(lines("transport/src/lib.rs", "use isobar_topology::x;"), [0; 0]);
        assert_eq!(lines("transport/src/lib.rs", "use isobar::model;"), [1]);
    }

    #[test]
    fn a_new_room_needs_a_row() {
        assert_eq!(lines("src/attic/mod.rs", "//! x"), [0]);
        assert_eq!(lines("src/main.rs", "use isobar::cli;"), [0; 0]);
    }
}
