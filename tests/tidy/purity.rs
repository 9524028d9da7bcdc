//! Cores are pure: no clock, random source, thread, `async` or I/O. Time and seed are arguments.

use crate::rooms::numbered;
use crate::source::{Finding, Source};

/// Where pure code lives: `/`-paths that start so. A path whose room is built must name something.
pub const CORES: [&str; 12] = [
    "topology/src/",
    "src/model/",
    "src/replica/core",
    "src/replica/host/",
    "src/coordinator/group",
    "src/metadata/",
    "src/kafka/fetch_sessions",
    "src/kafka/wire",
    "transport/src/outbound/backoff",
    "transport/src/outbound/queue",
    "transport/src/wire/",
    "transport/src/impair/link_model",
];

/// Parts of those paths that are drivers, or compiled for tests only.
const NO_CORE: [&str; 4] = ["/driver", "/service/", "/tests/", "tests.rs"];

/// What a core may not say, and what to do instead.
const IMPURE: [(&str, &str); 16] = [
    (".await", "hand the work out as an effect and take its answer as an input"),
    ("async ", "hand the work out as an effect and take its answer as an input"),
    ("tokio", "the driver owns the runtime"),
    ("Instant::now", "take `now` as an argument"),
    ("SystemTime", "take the wall clock's milliseconds as an argument"),
    ("std::thread", "the driver owns the threads"),
    ("thread::spawn", "the driver owns the threads"),
    ("thread_rng", "take a seeded source as an argument"),
    ("rand::random", "take a seeded source as an argument"),
    ("new_v4", "take the id as an argument"),
    ("std::fs", "hand the file operation out as an effect"),
    ("TcpStream", "hand the frame out as an effect"),
    ("TcpListener", "hand the frame out as an effect"),
    ("UdpSocket", "hand the frame out as an effect"),
    ("HashMap<", "its order differs from run to run: BTreeMap"),
    ("HashSet<", "its order differs from run to run: BTreeSet"),
];

pub fn is_core(path: &str) -> bool {
    CORES.iter().any(|core| path.starts_with(core))
        && !NO_CORE.iter().any(|part| path.contains(part))
}

/// Impure words in the product code of cores. `// tidy: reason` excuses a line.
pub fn cores_are_pure(source: &Source) -> Vec<Finding> {
    if !source.is_rust() || !is_core(&source.path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, text) in numbered(&source.product_code()) {
        for (word, mend) in IMPURE {
            if says(text, word) && !source.is_excused(line) {
                let mend = format!("`{}` in a core: {mend}", word.trim());
                found.push(source.finding(line, "cores are pure", mend));
            }
        }
    }
    found
}

/// Whether `word` stands in the line as words of its own: `async ` is not in `is_async `.
fn says(line: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let after = line[at + word.len()..].chars().next();
        let longer_before = part(word.chars().next()) && part(line[..at].chars().next_back());
        let longer_after = part(word.chars().next_back()) && part(after);
        !longer_before && !longer_after
    })
}

/// Entries of `CORES` that name nothing although their room is there: a core that moved away would
/// escape unseen.
pub fn cores_are_where_the_list_says(sources: &[Source]) -> Vec<Finding> {
    let is_there = |prefix: &str| sources.iter().any(|source| source.path.starts_with(prefix));
    let room =
        |core: &str| core.split('/').take(2).map(|part| format!("{part}/")).collect::<String>();
    CORES
        .iter()
        .filter(|core| is_there(&room(core)) && !is_there(core))
        .map(|core| Finding {
            path: "tests/tidy/purity.rs".into(),
            line: 0,
            rule: "cores are pure",
            mend: format!("no file starts with `{core}`: correct the entry in CORES"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        cores_are_pure(&Source { path: path.into(), text: text.into() }).len()
    }

    #[test]
    fn a_core_that_reads_a_clock_or_awaits_is_found() {
        for (word, _) in IMPURE {
            assert_eq!(found("src/replica/core/vote.rs", &format!("({word})")), 1, "{word}");
        }
    }

    #[test]
    fn drivers_tests_comments_and_reasons_are_left_alone() {
        assert_eq!(found("src/replica/driver.rs", "x.await"), 0);
        assert_eq!(found("src/coordinator/group/driver.rs", "x.await"), 0);
        assert_eq!(found("src/replica/core/tests.rs", "HashMap<K, V>"), 0);
        assert_eq!(found("src/replica/core.rs", "// x.await"), 0);
        assert_eq!(found("src/replica/core.rs", "if is_async { MyHashMap<K> }"), 0);
        assert_eq!(found("src/replica/core.rs", "#[cfg(test)]\nmod tests { HashMap<K, V> }"), 0);
        assert_eq!(
            found("src/replica/core.rs", "HashMap<K, V> // tidy: looked up, never iterated"),
            0
        );
    }

    #[test]
    fn a_core_that_moved_away_is_missed() {
        let source = |path: &str| Source { path: path.into(), text: String::new() };
        let missed = cores_are_where_the_list_says(&[source("src/model/mod.rs")]);
        assert_eq!(missed.len(), 0, "{missed:?}");
        let missed = cores_are_where_the_list_says(&[source("src/replica/core.rs")]);
        assert_eq!(missed.len(), 1, "{missed:?}");
        assert!(missed[0].mend.contains("src/replica/host/"));
    }
}
