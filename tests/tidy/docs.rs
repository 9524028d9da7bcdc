//! Documents: their links lead somewhere, and the index of decisions is whole.

use std::collections::BTreeSet;

use crate::rooms::numbered;
use crate::source::{Finding, Source};

const DECISIONS: &str = "docs/adr/";
const INDEX: &str = "docs/adr/README.md";

/// Every relative link of every document names a file, and a heading where it names one.
pub fn links_lead_somewhere(sources: &[Source], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.is_markdown()) {
        for (line, text) in numbered(&without_fences(&source.text)) {
            for link in links(text) {
                if let Some(mend) = broken(source, link, sources, &exists) {
                    found.push(source.finding(line, "links lead somewhere", mend));
                }
            }
        }
    }
    found
}

fn broken(
    source: &Source,
    link: &str,
    sources: &[Source],
    exists: impl Fn(&str) -> bool,
) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, heading) = link.split_once('#').map_or((link, None), |(p, h)| (p, Some(h)));
    let target = if path.is_empty() { source.path.clone() } else { join(&source.path, path) };
    if !exists(&target) {
        return Some(format!("`{link}`: there is no {target}"));
    }
    let document = sources.iter().find(|source| source.path == target && source.is_markdown());
    let heading = heading?;
    let text = without_fences(&document?.text);
    let missing = !text.lines().filter_map(slug).any(|slug| slug == heading);
    missing.then(|| format!("`{link}`: {target} has no heading #{heading}"))
}

/// A document's link resolved against the directory it stands in.
fn join(from: &str, link: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The targets of a line's `[text](target)`s outside of code spans.
fn links(line: &str) -> Vec<&str> {
    let outside = line.split('`').step_by(2);
    let mut found = Vec::new();
    for text in outside {
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            found.extend(rest.find(')').map(|end| rest[..end].trim()));
        }
    }
    found
}

/// GitHub's anchor for a heading line; `None` for other lines.
fn slug(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?;
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

/// The document with its fenced blocks blanked, lines kept.
fn without_fences(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        if inside || fence { "" } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Decisions are numbered without a gap, and the index names each.
pub fn decisions_are_indexed(sources: &[Source]) -> Vec<Finding> {
    const RULE: &str = "decisions are indexed";
    let records: BTreeSet<&str> = sources
        .iter()
        .filter_map(|source| source.path.strip_prefix(DECISIONS))
        .filter(|name| name.ends_with(".md") && *name != "README.md")
        .collect();
    let index = sources.iter().find(|source| source.path == INDEX);
    let listed = index.map_or("", |index| index.text.as_str());
    let mut found = Vec::new();
    for (number, record) in (1..).zip(&records) {
        let path = format!("{DECISIONS}{record}");
        if !record.starts_with(&format!("{number:04}-")) {
            let mend = format!("the next decision's number is {number:04}, once each");
            found.push(Finding { path: path.clone(), line: 0, rule: RULE, mend });
        }
        if !listed.contains(&format!("({record})")) {
            let mend = format!("give it a line in {INDEX}");
            found.push(Finding { path, line: 0, rule: RULE, mend });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    fn broken_links(text: &str) -> usize {
        let sources = [source("docs/a.md", text), source("docs/b.md", "# The `log`, drawn\n")];
        links_lead_somewhere(&sources, |path| sources.iter().any(|s| s.path == path)).len()
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        for text in ["[x](c.md)", "[x](b.md#none)", "[x](#none)", "a [x](b.md) b [y](../c.md)"] {
            assert_eq!(broken_links(text), 1, "{text}");
        }
    }

    #[test]
    fn a_link_to_a_file_a_heading_or_the_web_is_fine() {
        for text in [
            "[x](b.md)",
            "[x](b.md#the-log-drawn)",
            "[x](../docs/b.md)",
            "# H\n[x](#h)",
            "[x](https://example.com/none)",
            "`[x](none.md)`",
            "```\n[x](none.md)\n```",
        ] {
            assert_eq!(broken_links(text), 0, "{text}");
        }
    }

    #[test]
    fn a_decision_outside_the_index_or_out_of_number_is_found() {
        let index = source(INDEX, "- [one](0001-one.md)");
        let one = || source("docs/adr/0001-one.md", "");
        assert_eq!(decisions_are_indexed(&[one(), source(INDEX, "")]).len(), 1);
        assert_eq!(decisions_are_indexed(&[one(), index]), []);
        let index = source(INDEX, "(0001-one.md) (0003-two.md)");
        let gap = [one(), source("docs/adr/0003-two.md", ""), index];
        assert_eq!(decisions_are_indexed(&gap).len(), 1);
    }
}
