//! Two structures compared by what `{:?}` shows: field by field, by name, in any order. It is what
//! our structures and the oracle's have in common.

use std::collections::BTreeMap;

use super::super::ErrorCode;

#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Leaf(String),
    List(Vec<Tree>),
    Fields(BTreeMap<String, Tree>),
}

impl Tree {
    pub fn parse(shown: &str) -> Self {
        let mut parser = Parser { rest: shown };
        let tree = parser.value();
        assert_eq!(parser.rest, "", "all of it is read");
        tree
    }

    /// Null and empty are one for this purpose: a field that a version lacks may be either.
    fn empty() -> Self {
        Self::List(Vec::new())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start();
        let found = rest.strip_prefix(token);
        self.rest = found.unwrap_or(rest);
        found.is_some()
    }

    fn word(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && !"_-".contains(c));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word.to_owned()
    }

    fn quoted(&mut self) -> Tree {
        let end = self.rest.find('"').expect("samples hold no quotes");
        let (content, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        if content.is_empty() { Tree::empty() } else { Tree::Leaf(content.to_owned()) }
    }

    fn value(&mut self) -> Tree {
        if self.skip("b\"") || self.skip("\"") {
            return self.quoted();
        }
        if self.skip("[") {
            let mut list = Vec::new();
            while !self.skip("]") {
                list.push(self.value());
                self.skip(",");
            }
            return Tree::List(list);
        }
        let word = self.word();
        if self.rest.starts_with(" {") || self.rest.starts_with('{') {
            return self.fields();
        }
        if self.skip("(") {
            // A newtype or `Some`; `Records` is a list of pieces.
            let inner = self.value();
            assert!(self.skip(")"));
            return match inner {
                Tree::List(pieces) if word == "Records" => concatenation(pieces),
                other => other,
            };
        }
        match word.as_str() {
            "None" => Tree::empty(),
            _ => Tree::Leaf(word),
        }
    }

    fn fields(&mut self) -> Tree {
        assert!(self.skip("{"));
        let mut fields = BTreeMap::new();
        while !self.skip("}") {
            self.skip("");
            let name = self.word();
            assert!(self.skip(":"), "a name at {:?}", self.rest);
            self.skip("");
            let value = self.value();
            let value = if name.ends_with("error_code") { number_of(value) } else { value };
            fields.insert(name, value);
            self.skip(",");
        }
        Tree::Fields(fields)
    }
}

fn concatenation(pieces: Vec<Tree>) -> Tree {
    let leaves = pieces.into_iter().filter_map(|piece| match piece {
        Tree::Leaf(content) => Some(content),
        _ => None,
    });
    match leaves.collect::<String>() {
        all if all.is_empty() => Tree::empty(),
        all => Tree::Leaf(all),
    }
}

/// Our error codes show their names, the oracle's their numbers. `None` is 0.
fn number_of(code: Tree) -> Tree {
    let number = match &code {
        Tree::Leaf(name) => ErrorCode::ALL.iter().find(|c| format!("{c:?}") == *name),
        _ => Some(&ErrorCode::None),
    };
    number.map_or(code, |c| Tree::Leaf(c.number().to_string()))
}

/// Where the two differ first.
pub fn difference(ours: &Tree, theirs: &Tree) -> Option<String> {
    match (ours, theirs) {
        (Tree::Fields(ours), Tree::Fields(theirs)) => {
            let names = |t: &BTreeMap<String, Tree>| {
                t.keys().filter(|k| *k != "unknown_tagged_fields").cloned().collect::<Vec<_>>()
            };
            let unknown = |name: &String| !ours.contains_key(name) && !IGNORED.contains(&&**name);
            if let Some(name) = names(theirs).into_iter().find(unknown) {
                return Some(format!(".{name} is unknown to us"));
            }
            names(ours).into_iter().find_map(|name| match theirs.get(&name) {
                None => Some(format!(".{name} is unknown to the oracle")),
                Some(value) => difference(&ours[&name], value).map(|rest| format!(".{name}{rest}")),
            })
        }
        (Tree::List(ours), Tree::List(theirs)) if ours.len() == theirs.len() => ours
            .iter()
            .zip(theirs)
            .enumerate()
            .find_map(|(at, (a, b))| difference(a, b).map(|rest| format!("[{at}]{rest}"))),
        (a, b) if a == b => None,
        (a, b) => Some(format!(": {a:?} to us, {b:?} to the oracle")),
    }
}

/// Fields of versions that we do not serve: InitProducerId 6.
const IGNORED: &[&str] =
    &["enable_2_pc", "keep_prepared_txn", "ongoing_txn_producer_id", "ongoing_txn_producer_epoch"];
