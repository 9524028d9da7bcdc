//! A source file as the rules see it: its text, its code without comments and literals, and which
//! of its lines are excused.

use std::fs;
use std::path::Path;

/// What an exception looks like, in a comment on the line itself or on the line above it.
const EXCEPTION: &str = "tidy: ";

/// Shorter than this is not a reason.
const REASON_CHARS_MIN: usize = 10;

/// Directories that hold what people wrote; everything else is built or fetched.
const WRITTEN: [&str; 8] =
    ["src", "topology", "transport", "tests", "deploy", "docs", ".ci", ".github"];

pub struct Source {
    /// From the repository's top, with `/`.
    pub path: String,
    pub text: String,
}

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub path: String,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    pub rule: &'static str,
    /// What is wrong, and how to mend it.
    pub mend: String,
}

impl Source {
    pub fn finding(&self, line: usize, rule: &'static str, mend: impl Into<String>) -> Finding {
        Finding { path: self.path.clone(), line, rule, mend: mend.into() }
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub fn is_python(&self) -> bool {
        self.path.ends_with(".py")
    }

    pub fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// Whether the line (from 1), or the line above it, gives a reason for an exception.
    pub fn is_excused(&self, line: usize) -> bool {
        let lines: Vec<&str> = self.text.lines().collect();
        let gives_reason = |line: usize| {
            let text = lines.get(line.wrapping_sub(1)).copied().unwrap_or_default();
            let comment = text.find("//").or_else(|| text.find('#')).map(|at| &text[at..]);
            comment
                .and_then(|c| c.split_once(EXCEPTION))
                .is_some_and(|(_, reason)| reason.trim().chars().count() >= REASON_CHARS_MIN)
        };
        gives_reason(line) || gives_reason(line - 1)
    }

    /// The Rust code, with comments and literals blanked and every line kept at its place.
    pub fn code(&self) -> String {
        blank_comments_and_literals(&self.text)
    }

    /// `code` without what is compiled for tests only.
    pub fn product_code(&self) -> String {
        blank_test_items(&self.code())
    }
}

/// Everything that people wrote, in the order of its paths.
pub fn read_all(top: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    for entry in children(top) {
        let name = entry.file_name().expect("a child has a name").to_string_lossy().into_owned();
        if entry.is_file() || WRITTEN.contains(&name.as_str()) {
            read_below(top, &entry, &mut sources);
        }
    }
    sources
}

fn read_below(top: &Path, at: &Path, sources: &mut Vec<Source>) {
    if at.is_dir() {
        let name = at.file_name().expect("a child has a name").to_string_lossy().into_owned();
        if !["target", "node_modules", "__pycache__", ".pytest_cache"].contains(&name.as_str()) {
            children(at).iter().for_each(|child| read_below(top, child, sources));
        }
    } else if let Ok(text) = fs::read_to_string(at) {
        let path = at.strip_prefix(top).expect("read from below the top");
        sources.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
    }
}

/// What a directory holds, in the order of names.
pub fn children(at: &Path) -> Vec<std::path::PathBuf> {
    let read = fs::read_dir(at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
    let mut children: Vec<_> = read.map(|entry| entry.expect("a readable entry").path()).collect();
    children.sort();
    children
}

fn blank_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_or_comment_end(&chars, at);
        if end > at {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        } else {
            out.push(chars[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment or literal that starts at `at` ends; `at` if none starts there.
fn literal_or_comment_end(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\0');
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if next(1) == '/' => {
            (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
        }
        '/' if next(1) == '*' => block_comment_end(chars, at),
        '"' => quoted_end(chars, at + 1, '"'),
        'r' if !in_word && (next(1) == '"' || next(1) == '#') => raw_string_end(chars, at),
        // A char literal; anything else that starts with a quote is a lifetime.
        '\'' if next(1) == '\\' || next(2) == '\'' => quoted_end(chars, at + 1, '\''),
        _ => at,
    }
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], start: usize) -> usize {
    let hashes = chars[start + 1..].iter().take_while(|c| **c == '#').count();
    let open = start + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return start;
    }
    let closes = |at: usize| {
        chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    (open + 1..chars.len()).find(|at| closes(*at)).map_or(chars.len(), |at| at + 1 + hashes)
}

/// Blanks each item under `#[cfg(test)]`, up to its closing brace or semicolon.
fn blank_test_items(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let end = item_end(&out, start);
        let blank: String =
            out[start..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        from = start + blank.len();
        out.replace_range(start..end, &blank);
    }
    out
}

fn item_end(code: &str, start: usize) -> usize {
    let mut depth = 0usize;
    for (at, c) in code[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return start + at + 1;
                }
            }
            ';' if depth == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "src/x.rs".into(), text: text.into() }
    }

    #[test]
    fn comments_and_literals_are_no_code_and_lines_stay_where_they_are() {
        let text =
            "a // todo!\n\"b \\\" todo!\" c\n/* d /* e */ f */ g\nr#\"h\" i\"# 'j' '\\'' &'k l";
        assert_eq!(
            source(text).code().lines().map(str::trim).collect::<Vec<_>>(),
            ["a", "c", "g", "&'k l"]
        );
    }

    #[test]
    fn what_is_compiled_for_tests_is_no_product_code() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { {} } }\nfn c() {}\n\
                    #[cfg(test)]\nmod d;\nfn e() {}";
        let code = source(text).product_code();
        assert_eq!(code.split_whitespace().collect::<String>(), "fna(){}fnc(){}fne(){}");
    }

    #[test]
    fn an_exception_needs_a_reason() {
        assert!(source("x // tidy: the product's own timer").is_excused(1));
        assert!(source("// tidy: the product's own timer\nx").is_excused(2));
        assert!(source("x # tidy: the product's own timer").is_excused(1));
        assert!(!source("x // tidy: ok").is_excused(1));
        assert!(!source("tidy: the product's own timer").is_excused(1));
    }
}
