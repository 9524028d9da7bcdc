//! Walks the tables of the file: remembers where each key stands, refuses unknown ones, and says of
//! a value that is not there or of another kind what would be right.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use crate::options::{ELSEWHERE, Entry};
use crate::policy::Value;
use crate::{Problem, Severity, suggest};

/// Of the source, shown beside a syntax error.
const SNIPPET_CHARS: usize = 60;

pub(super) struct Reader {
    /// Key path → line.
    places: BTreeMap<String, usize>,
    problems: Vec<Problem>,
    /// Lines where the text is no TOML. What was made of them is not worth a second report.
    damaged: BTreeSet<usize>,
}

/// A table of the file and its path.
pub(super) struct Section<'d> {
    pub path: String,
    table: &'d DeTable<'d>,
    entries: &'static [Entry],
}

impl<'d> Section<'d> {
    pub fn key(&self, name: &str) -> String {
        join(&self.path, name)
    }

    pub fn value(&self, name: &str) -> Option<&'d DeValue<'d>> {
        debug_assert!(self.entries.iter().any(|entry| entry.name == name), "{name} has no manual");
        self.table.get(name).map(toml::Spanned::get_ref)
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Reader {
    pub fn new(text: &str, document: &DeTable<'_>, syntax: &[toml::de::Error]) -> Self {
        let lines = Lines::new(text);
        let mut places = BTreeMap::new();
        note_table(&mut places, &lines, "", document);
        let at = |error: &toml::de::Error| {
            let position = error.span().map_or(0, |span| span.start);
            lines.text(text, position).chars().take(SNIPPET_CHARS).collect::<String>()
        };
        let problems = syntax.iter().map(|error| Problem {
            severity: Severity::Error,
            line: error.span().map_or(1, |span| lines.line(span.start)),
            key: String::new(),
            found: format!("{} at `{}`", error.message().replace('\n', ", "), at(error)),
            expected: "valid TOML (https://toml.io)".to_owned(),
        });
        let problems: Vec<Problem> = problems.collect();
        let damaged = problems.iter().map(|problem| problem.line).collect();
        Self { places, problems, damaged }
    }

    pub fn damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }

    pub fn finish(self) -> Vec<Problem> {
        self.problems
    }

    pub fn error(&mut self, key: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.report(Severity::Error, key, found, expected);
    }

    pub fn report(
        &mut self,
        severity: Severity,
        key: &str,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        let (found, expected) = (found.into(), expected.into());
        let line = self.line(key);
        if self.damaged.contains(&line) {
            return;
        }
        self.problems.push(Problem { severity, line, key: key.to_owned(), found, expected });
    }

    /// Of the key, or of the nearest table around it that the file has.
    fn line(&self, key: &str) -> usize {
        let mut path = key;
        loop {
            if let Some(line) = self.places.get(path) {
                return *line;
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return 1,
            }
        }
    }

    /// Whether the file has this key, right or wrong.
    pub fn stands(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Enters a table: refuses what it does not know in there.
    pub fn section<'d>(
        &mut self,
        path: &str,
        value: &'d DeValue<'d>,
        entries: &'static [Entry],
    ) -> Option<Section<'d>> {
        match value {
            DeValue::Table(table) => Some(self.table(path, table, entries)),
            other => {
                let keys: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
                let expected = format!("a table with the keys {}", keys.join(", "));
                self.error(path, describe(other), expected);
                None
            }
        }
    }

    pub fn table<'d>(
        &mut self,
        path: &str,
        table: &'d DeTable<'d>,
        entries: &'static [Entry],
    ) -> Section<'d> {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !entries.iter().any(|entry| entry.name == name) {
                self.error(&join(path, name), "an unknown key", instead_of(name, entries));
            }
        }
        Section { path: path.to_owned(), table, entries }
    }

    /// A list of tables, each entered; a single table where a list belongs is a common slip.
    pub fn sections<'d>(
        &mut self,
        path: &str,
        value: &'d DeValue<'d>,
        entries: &'static [Entry],
    ) -> Vec<Section<'d>> {
        let DeValue::Array(items) = value else {
            let header = path.rsplit_once("].").map_or(path.to_owned(), |(outer, inner)| {
                format!("{}.{inner}", outer.split('[').next().unwrap_or(outer))
            });
            // Text that is no TOML loses its brackets first.
            if !self.damaged() {
                let expected = format!("a list of tables, each headed [[{header}]]");
                self.error(path, describe(value), expected);
            }
            return Vec::new();
        };
        let mut out = Vec::new();
        for (i, item) in items.iter().enumerate() {
            out.extend(self.section(&format!("{path}[{i}]"), item.get_ref(), entries));
        }
        out
    }

    /// The value of a key that must be there.
    pub fn required<'d>(&mut self, section: &Section<'d>, name: &str) -> Option<&'d DeValue<'d>> {
        let value = section.value(name);
        if value.is_none() {
            self.missing(section, name);
        }
        value
    }

    pub fn missing(&mut self, section: &Section<'_>, name: &str) {
        let entry = section.entries.iter().find(|entry| entry.name == name);
        let entry = entry.expect("only keys with a manual are asked for");
        self.absent(&section.key(name), format!("{} ({})", entry.name, entry.kind.as_str()));
    }

    /// Something that is not there, unless it may have been lost.
    pub fn absent(&mut self, key: &str, expected: impl Into<String>) {
        if !self.damaged() {
            self.error(key, "nothing", expected);
        }
    }

    /// Text, if the key is there and is text.
    pub fn text<'d>(&mut self, section: &Section<'d>, name: &str) -> Option<&'d str> {
        match section.value(name)? {
            DeValue::String(text) => Some(text),
            other => {
                self.error(&section.key(name), describe(other), "text in double quotes");
                None
            }
        }
    }

    /// Text that must be there, made into something by `parse`, which says what would be right.
    pub fn parsed<'d, T>(
        &mut self,
        section: &Section<'d>,
        name: &str,
        parse: impl FnOnce(&'d str) -> Result<T, String>,
    ) -> Option<T> {
        self.required(section, name)?;
        self.parsed_or(section, name, parse)?
    }

    /// The same for a key that may be left out: `Some(None)`'s place is taken by the caller's
    /// default, so this gives `None` where nothing stands and `Some(hole)` where it was wrong.
    pub fn parsed_or<'d, T>(
        &mut self,
        section: &Section<'d>,
        name: &str,
        parse: impl FnOnce(&'d str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        section.value(name)?;
        let Some(text) = self.text(section, name) else { return Some(None) };
        match parse(text) {
            Ok(value) => Some(Some(value)),
            Err(expected) => {
                self.error(&section.key(name), format!("{text:?}"), expected);
                Some(None)
            }
        }
    }

    pub fn integer(&mut self, section: &Section<'_>, name: &str, expected: &str) -> Option<i64> {
        let value = self.required(section, name)?;
        let number = match value {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        if number.is_none() {
            self.error(&section.key(name), describe(value), expected);
        }
        number
    }

    pub fn bool_or(&mut self, section: &Section<'_>, name: &str, default: bool) -> Option<bool> {
        match section.value(name) {
            None => Some(default),
            Some(DeValue::Boolean(value)) => Some(*value),
            Some(other) => {
                self.error(&section.key(name), describe(other), "true or false");
                None
            }
        }
    }

    /// A list of texts that must be there.
    pub fn texts<'d>(
        &mut self,
        section: &Section<'d>,
        name: &str,
        expected: &str,
    ) -> Option<Vec<&'d str>> {
        let value = self.required(section, name)?;
        let texts = match value {
            DeValue::Array(items) => items
                .iter()
                .map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(text.as_ref()),
                    _ => None,
                })
                .collect::<Option<Vec<&str>>>(),
            _ => None,
        };
        if texts.is_none() {
            self.error(&section.key(name), describe(value), expected);
        }
        texts
    }
}

fn instead_of(name: &str, entries: &'static [Entry]) -> String {
    let known = || entries.iter().map(|entry| entry.name);
    if let Some(near) = suggest::nearest(name, known()) {
        return format!("{near:?}, perhaps");
    }
    if let Some((_, advice)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
        return (*advice).to_owned();
    }
    format!("one of {}", known().collect::<Vec<_>>().join(", "))
}

/// As in "found …".
pub(super) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A TOML value as a policy takes it.
pub(super) fn policy_value<'d>(value: &'d DeValue<'d>) -> Value<'d> {
    match value {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other("a number far out of range"), Value::Integer),
        DeValue::Float(_) => Value::Other("a fraction"),
        DeValue::Boolean(true) => Value::Other("true"),
        DeValue::Boolean(false) => Value::Other("false"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| policy_value(item.get_ref())).collect())
        }
        DeValue::Table(table) => {
            let pair = |(key, value): (&'d toml::Spanned<_>, &'d toml::Spanned<DeValue<'d>>)| {
                let key: &'d std::borrow::Cow<'d, str> = key.get_ref();
                (key.as_ref(), policy_value(value.get_ref()))
            };
            Value::Table(table.iter().map(pair).collect())
        }
    }
}

fn note_table(
    places: &mut BTreeMap<String, usize>,
    lines: &Lines,
    path: &str,
    table: &DeTable<'_>,
) {
    for (key, value) in table {
        let path = join(path, key.get_ref());
        places.insert(path.clone(), lines.line(key.span().start));
        note_value(places, lines, &path, value.get_ref());
    }
}

/// The depth is the parser's: it refuses text nested deeper than 80.
fn note_value(
    places: &mut BTreeMap<String, usize>,
    lines: &Lines,
    path: &str,
    value: &DeValue<'_>,
) {
    match value {
        DeValue::Table(table) => note_table(places, lines, path, table),
        DeValue::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                let path = format!("{path}[{i}]");
                places.insert(path.clone(), lines.line(item.span().start));
                note_value(places, lines, &path, item.get_ref());
            }
        }
        _ => {}
    }
}

/// Where lines start, to turn a position into a line number.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(after.map(|(at, _)| at + 1)).collect())
    }

    /// The line around a position, without its indent.
    fn text<'t>(&self, text: &'t str, position: usize) -> &'t str {
        let line = self.line(position);
        let end = self.0.get(line).copied().unwrap_or(text.len());
        text.get(self.0[line - 1]..end).unwrap_or_default().trim()
    }

    /// From 1.
    fn line(&self, position: usize) -> usize {
        self.0.partition_point(|start| *start <= position)
    }
}
