//! What is wrong with a topology file, said so that nobody has to ask back: where, what was found
//! and what would be right.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is accepted; somebody should know.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// In the source text, from 1.
    pub line: usize,
    /// The path of the key, as in `policy.payments.sync_to` or `node[2].peer.bind` (elements count
    /// from 0). Empty for the file as a whole.
    pub key: String,
    pub found: String,
    /// What would be right.
    pub expected: String,
}

/// A finding of severity [`Severity::Warning`].
pub type Warning = Problem;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "line {}: {severity}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "found {}; expected {}", self.found, self.expected)
    }
}

/// Everything that is wrong with a file, in the order of its lines, warnings included. At least one
/// is an error.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts by line.
    ///
    /// # Panics
    /// When none of them is an error: that is a list of warnings.
    pub(crate) fn new(mut problems: Vec<Problem>) -> Self {
        assert!(problems.iter().any(|p| p.severity == Severity::Error), "refused for no reason");
        problems.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        Self(problems)
    }

    pub fn as_slice(&self) -> &[Problem] {
        &self.0
    }

    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter(|p| p.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Problems {}
