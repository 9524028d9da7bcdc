//! "Did you mean": the nearest known name to a mistyped one.

/// Edits (insert, delete, replace, swap neighbours) beyond which a name is another name, not a
/// typing mistake.
const EDITS_MAX: usize = 2;

/// Longer names than any of ours resemble none.
const NAME_BYTES_MAX: usize = 64;

/// The known name that is nearest, where one is near enough.
pub fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if found.len() > NAME_BYTES_MAX {
        return None;
    }
    let near = known.map(|name| (edits(&fold(found), &fold(name)), name));
    // Of a short name, two edits leave nothing.
    let most = EDITS_MAX.min(found.len().div_ceil(3));
    near.filter(|(edits, _)| *edits <= most).min().map(|(_, name)| name)
}

/// The nearest name as an expectation, or whatever `otherwise` says.
pub fn among<'a>(
    found: &str,
    known: impl Iterator<Item = &'a str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    nearest(found, known).map_or_else(otherwise, |name| format!("{name:?}, perhaps"))
}

/// `syncTo`, `sync-to` and `sync_to` are the same mistake.
fn fold(name: &str) -> Vec<char> {
    name.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect()
}

/// Optimal string alignment distance.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_mistakes_find_their_name_and_other_words_do_not() {
        let known = ["replicas", "replication", "sync_to", "home", "flush"];
        let cases = [
            ("replica", Some("replicas")),
            ("syncTo", Some("sync_to")),
            ("hmoe", Some("home")),
            ("flsh", Some("flush")),
            ("retention", None),
            ("x", None),
        ];
        for (found, expected) in cases {
            assert_eq!(nearest(found, known.into_iter()), expected, "{found}");
        }
    }
}
