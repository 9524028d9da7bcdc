//! The shape of files: their length, how they open, and what must not stand in them.

use crate::rooms::numbered;
use crate::source::{Finding, Source};

/// More than this is two rooms in one file.
const LINES_MAX: usize = 500;

/// The top level is fixed (design §2); `target` and `isobar-data` are what cargo and `isobar dev`
/// leave there.
const TOP: [&str; 12] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "deploy",
    "docs",
    "isobar-data",
    "src",
    "target",
    "tests",
    "topology",
    "transport",
];

/// What is never finished work.
const UNFINISHED: [(&str, &str); 3] = [
    ("todo!", "finish it, or refuse clearly with an error"),
    ("unimplemented!", "finish it, or refuse clearly with an error"),
    ("#[ignore", "a test that does not run proves nothing: mend it or delete it"),
];

pub fn top_level_is_fixed(names: &[String]) -> Vec<Finding> {
    let stray = names.iter().filter(|n| !n.starts_with('.') && !TOP.contains(&n.as_str()));
    stray
        .map(|name| Finding {
            path: name.clone(),
            line: 0,
            rule: "the top level is fixed",
            mend: "move it into one of the rooms of docs/architecture.md".into(),
        })
        .collect()
}

pub fn files_are_short(source: &Source) -> Vec<Finding> {
    let code = [".rs", ".py", ".js", ".sh"].iter().any(|end| source.path.ends_with(end));
    let lines = source.text.lines().count();
    if !code || lines <= LINES_MAX {
        return Vec::new();
    }
    let mend =
        format!("{lines} lines, at most {LINES_MAX}: find the second concept, give it a file");
    vec![source.finding(LINES_MAX + 1, "files are short", mend)]
}

pub fn modules_open_with_their_story(source: &Source) -> Vec<Finding> {
    let opens = ["/mod.rs", "/lib.rs"].iter().any(|end| source.path.ends_with(end));
    if !opens || source.text.starts_with("//!") {
        return Vec::new();
    }
    let mend = "open with `//!`: what it owns, its picture, its invariants, what is missing";
    vec![source.finding(1, "modules open with their story", mend)]
}

pub fn nothing_is_left_unfinished(source: &Source) -> Vec<Finding> {
    if !source.is_rust() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, text) in numbered(&source.code()) {
        for (word, mend) in UNFINISHED {
            if text.contains(word) {
                found.push(source.finding(line, "nothing is left unfinished", mend));
            }
        }
    }
    found
}

/// A sleep stands in for an event that nobody waits for. `sleep_until` a deadline is a timer, and a
/// driver that tries again after a named pause names its limit; in tests there is no such excuse.
pub fn nobody_sleeps_for_luck(source: &Source) -> Vec<Finding> {
    let (all, product) = if source.is_rust() {
        (source.code(), if is_test(&source.path) { String::new() } else { source.product_code() })
    } else if source.is_python() {
        (source.text.clone(), String::new())
    } else {
        return Vec::new();
    };
    let product: Vec<&str> = product.lines().collect();
    numbered(&all)
        .filter(|(line, text)| {
            let in_product = product.get(line - 1) == Some(text);
            sleeps(text, in_product) && !source.is_excused(*line)
        })
        .map(|(line, _)| {
            let mend = "wait for the event (with a deadline), or give the reason: `tidy: why`";
            source.finding(line, "nobody sleeps for luck", mend)
        })
        .collect()
}

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("tests.rs")
}

/// Whether the line calls `sleep`: any, or (in product code) one that blocks a thread or says how
/// long without a name.
fn sleeps(text: &str, in_product: bool) -> bool {
    text.match_indices("sleep(").any(|(at, call)| {
        let (before, after) = (&text[..at], &text[at + call.len()..]);
        let called = !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
            && !before.trim_end().ends_with("fn");
        let nameless = after.starts_with("Duration::") || before.ends_with("thread::");
        called && (nameless || !in_product)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_file_of_two_rooms_is_found() {
        assert_eq!(files_are_short(&source("a.rs", &"x\n".repeat(500))), []);
        assert_eq!(files_are_short(&source("a.rs", &"x\n".repeat(501)))[0].line, 501);
        assert_eq!(files_are_short(&source("Cargo.lock", &"x\n".repeat(501))), []);
    }

    #[test]
    fn a_module_without_its_story_is_found() {
        assert_eq!(modules_open_with_their_story(&source("src/a/mod.rs", "mod b;")).len(), 1);
        assert_eq!(modules_open_with_their_story(&source("src/a/mod.rs", "//! A.")), []);
        assert_eq!(modules_open_with_their_story(&source("src/a/b.rs", "mod b;")), []);
    }

    #[test]
    fn unfinished_business_is_found_in_code_and_left_alone_in_prose() {
        for (word, _) in UNFINISHED {
            assert_eq!(nothing_is_left_unfinished(&source("a.rs", word)).len(), 1, "{word}");
            let prose = format!("// {word}");
            assert_eq!(nothing_is_left_unfinished(&source("a.rs", &prose)), []);
        }
    }

    #[test]
    fn a_sleep_is_found_and_a_timer_is_not() {
        for text in ["thread::sleep(x)", "tokio::time::sleep(x).await", "sleep(x)"] {
            assert_eq!(nobody_sleeps_for_luck(&source("tests/a.rs", text)).len(), 1, "{text}");
            let inside = format!("#[cfg(test)]\nmod tests {{\n{text}\n}}");
            assert_eq!(nobody_sleeps_for_luck(&source("src/a.rs", &inside))[0].line, 3, "{text}");
        }
        assert_eq!(nobody_sleeps_for_luck(&source("a.py", "    time.sleep(1)")).len(), 1);
        let excused = "sleep(x) // tidy: what the product itself waits for";
        for text in ["sleep_until(x)", "fn sleep(x)", "nosleep(x)", "// sleep(x)", excused] {
            assert_eq!(nobody_sleeps_for_luck(&source("tests/a.rs", text)), [], "{text}");
        }
    }

    #[test]
    fn a_driver_may_try_again_after_a_named_pause() {
        let found = |text: &str| nobody_sleeps_for_luck(&source("src/a.rs", text)).len();
        assert_eq!(found("time::sleep(RETRY).await"), 0);
        assert_eq!(found("time::sleep(Duration::from_millis(20)).await"), 1);
        assert_eq!(found("thread::sleep(RETRY)"), 1);
    }

    #[test]
    fn a_stray_file_on_top_is_found() {
        let names = |n: &[&str]| n.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(top_level_is_fixed(&names(&["src", ".ci", "README.md"])), []);
        assert_eq!(top_level_is_fixed(&names(&["notes.txt"])).len(), 1);
    }
}
