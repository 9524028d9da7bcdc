//! Topic name patterns: `*` is any run of characters, `?` any one, everything else itself.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Kafka's limit for a topic name; a pattern needs no more.
pub const PATTERN_BYTES_MAX: usize = 249;

/// A glob over topic names. Ordered by its text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Pattern(Arc<str>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("topic pattern {0:?}: expected {EXPECTED}")]
pub struct Error(pub String);

pub const EXPECTED: &str = "1 to 249 of a-z, A-Z, 0-9, '.', '_', '-', '*' and '?'";

/// How closely a pattern describes what it matches; the greater wins. The literal prefix decides,
/// and of two with the same prefix the one without a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    prefix_bytes: usize,
    literal: bool,
}

impl Pattern {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn specificity(&self) -> Specificity {
        let prefix_bytes = self.0.find(['*', '?']);
        Specificity {
            prefix_bytes: prefix_bytes.unwrap_or(self.0.len()),
            literal: prefix_bytes.is_none(),
        }
    }

    pub fn matches(&self, name: &str) -> bool {
        // A name without wildcards is a pattern that matches only itself.
        intersects(self.0.as_bytes(), name.as_bytes(), false)
    }

    /// Whether some name matches both and neither describes it more closely.
    pub fn ties_with(&self, other: &Self) -> bool {
        let prefix = |pattern: &Self| pattern.specificity().prefix_bytes;
        // Two literal prefixes of one length match one name only when they are the same.
        self.specificity() == other.specificity()
            && self.0[..prefix(self)] == other.0[..prefix(other)]
            && intersects(self.0.as_bytes(), other.0.as_bytes(), true)
    }
}

/// Whether a common name exists: row by row over the positions reachable in `a` and `b` together,
/// so the cost is the product of the lengths whatever the pattern (no backtracking to exploit).
fn intersects(a: &[u8], b: &[u8], b_is_pattern: bool) -> bool {
    let b_star = |j: usize| b_is_pattern && b.get(j) == Some(&b'*');
    let same = |x: u8, y: u8| x == y || x == b'?' || (b_is_pattern && y == b'?');
    // reached[j]: the first i of `a` and the first j of `b` describe a common beginning.
    let mut reached = vec![false; b.len() + 1];
    reached[0] = true;
    close_over_stars(&mut reached, &b_star);
    for &x in a {
        let mut next = vec![false; b.len() + 1];
        for j in 0..=b.len() {
            if !reached[j] {
                continue;
            }
            if x == b'*' {
                // The star ends here, or takes whatever `b` asks for next.
                next[j..].fill(true);
                break;
            }
            if b_star(j) {
                next[j] = true;
            } else if j < b.len() && same(x, b[j]) {
                next[j + 1] = true;
            }
        }
        close_over_stars(&mut next, &b_star);
        reached = next;
    }
    reached[b.len()]
}

/// A star of `b` may be empty.
fn close_over_stars(reached: &mut [bool], b_star: &impl Fn(usize) -> bool) {
    for j in 1..reached.len() {
        if reached[j - 1] && b_star(j - 1) {
            reached[j] = true;
        }
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-*?".contains(c);
        if (1..=PATTERN_BYTES_MAX).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(Error(text.to_owned()))
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> Pattern {
        text.parse().unwrap()
    }

    #[test]
    fn stars_and_question_marks() {
        let cases = [
            ("payments.*", "payments.eu", true),
            ("payments.*", "payments.", true),
            ("payments.*", "payments", false),
            ("*", "anything", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*.eu", "payments.eu", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("orders", "orders", true),
            ("orders", "orders2", false),
        ];
        for (glob, name, expected) in cases {
            assert_eq!(pattern(glob).matches(name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn the_longest_literal_prefix_is_the_most_specific() {
        let ordered = ["*", "pay*", "payments.*", "payments.eu*", "payments.eu"];
        for pair in ordered.windows(2) {
            assert!(pattern(pair[0]).specificity() < pattern(pair[1]).specificity(), "{pair:?}");
        }
    }

    #[test]
    fn a_tie_needs_a_common_name_and_equal_prefixes() {
        let cases = [
            ("pay*", "pay?x", true),
            ("*.eu", "*.us", false),
            ("*.eu", "a*", false),
            ("*a", "*b*", true),
            ("a", "a", true),
            ("a?b", "a?c", false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(pattern(a).ties_with(&pattern(b)), expected, "{a} {b}");
            assert_eq!(pattern(b).ties_with(&pattern(a)), expected, "{b} {a}");
        }
    }

    /// The textbook definition, exponential and obviously right.
    fn naive(glob: &[u8], name: &[u8]) -> bool {
        match (glob.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => {
                naive(rest, name) || (!name.is_empty() && naive(glob, &name[1..]))
            }
            (Some((b'?', rest)), Some((_, tail))) => naive(rest, tail),
            (Some((g, rest)), Some((n, tail))) => g == n && naive(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn matching_is_the_textbook_definition(glob in "[ab*?]{1,7}", name in "[ab]{0,7}") {
            prop_assert_eq!(pattern(&glob).matches(&name), naive(glob.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn two_patterns_that_match_a_name_intersect(
            a in "[ab*?]{1,6}", b in "[ab*?]{1,6}", name in "[ab]{0,6}",
        ) {
            if naive(a.as_bytes(), name.as_bytes()) && naive(b.as_bytes(), name.as_bytes()) {
                prop_assert!(intersects(a.as_bytes(), b.as_bytes(), true));
            }
        }

        #[test]
        fn patterns_that_intersect_have_a_common_name(a in "[ab*?]{1,4}", b in "[ab*?]{1,4}") {
            // A shortest common name uses at most one character for every pair of positions, and
            // over two letters eight characters are enough for patterns this short.
            let common = (0..=8u32).any(|len| (0..1u32 << len).any(|bits| {
                let name: Vec<u8> = (0..len).map(|i| if bits >> i & 1 == 1 { b'a' } else { b'b' }).collect();
                naive(a.as_bytes(), &name) && naive(b.as_bytes(), &name)
            }));
            prop_assert_eq!(intersects(a.as_bytes(), b.as_bytes(), true), common);
        }
    }
}
