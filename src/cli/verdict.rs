//! What a move claims, for people.

use super::dc::utc;
use super::output;
use crate::admin::api::Verdict;

pub fn claim(verdict: Verdict) -> String {
    match verdict {
        Verdict::Lossless => "lossless, proven".to_owned(),
        Verdict::UnboundedSince { since_ms } => format!("unbounded {}", since(since_ms)),
        Verdict::AtMost { since_ms, records, bytes, span_ms, first_offset } => {
            let number = records.map(|most| output::count(most as usize, "record"));
            let span = span_ms.map(|ms| format!("{} of writes", output::seconds(ms as f64 / 1e3)));
            let bounds = number.into_iter().chain(bytes.map(output::bytes)).chain(span);
            let offsets = first_offset.zip(records).map(|(first, most)| {
                format!(", offsets {first}-{}", first.saturating_add_unsigned(most) - 1)
            });
            format!(
                "at most {}{} ({})",
                bounds.collect::<Vec<_>>().join(" and "),
                offsets.unwrap_or_default(),
                since(since_ms)
            )
        }
        Verdict::Undecided => "undecided".to_owned(),
    }
}

/// What was acknowledged before is not meant.
fn since(unix_ms: i64) -> String {
    match unix_ms {
        0 => "since nobody can say when".to_owned(),
        known => format!("since {}", utc(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_says_since_when_if_anybody_can() {
        let at_most = |since_ms| Verdict::AtMost {
            since_ms,
            records: Some(10),
            bytes: None,
            span_ms: None,
            first_offset: Some(6),
        };
        let never = "since nobody can say when";
        assert_eq!(claim(Verdict::UnboundedSince { since_ms: 0 }), format!("unbounded {never}"));
        assert_eq!(claim(at_most(0)), format!("at most 10 records, offsets 6-15 ({never})"));
        assert!(claim(at_most(951_825_600_000)).ends_with(" (since 2000-02-29T12:00:00Z)"));
    }
}
