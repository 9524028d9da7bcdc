//! Prometheus' text format (version 0.0.4), for what is computed at the scrape.
//!
//! These are not kept in the recorder, because a series of a partition that has left the node would
//! stay there for ever.

use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
}

/// One metric: its name, and what it says. `docs/metrics.md` lists each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

/// A family's samples, each with its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    family: Family,
    lines: String,
}

/// All samples of one scrape, in the order of the families.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposition {
    families: Vec<Samples>,
}

pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    pub fn new(families: &[Family]) -> Self {
        let samples = |family: &Family| Samples { family: *family, lines: String::new() };
        Self { families: families.iter().map(samples).collect() }
    }

    /// # Panics
    /// If the family is not one of those that it was made with.
    pub fn add(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        let samples = self.families.iter_mut().find(|samples| samples.family.name == name);
        let lines = &mut samples.expect("a family of the table").lines;
        lines.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            lines.push(if at == 0 { '{' } else { ',' });
            lines.push_str(label);
            lines.push_str("=\"");
            escape(lines, value);
            lines.push('"');
        }
        if !labels.is_empty() {
            lines.push('}');
        }
        // Writing to a String cannot fail.
        let _ = match value == f64::INFINITY {
            true => writeln!(lines, " +Inf"),
            false => writeln!(lines, " {value}"),
        };
    }

    /// A family without a sample is shown all the same: a reader sees that it is known here.
    pub fn write(&self, out: &mut String) {
        for Samples { family, lines } in &self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let Family { name, help, .. } = family;
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}\n");
        }
    }
}

fn escape(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped_and_families_without_a_sample_are_named() {
        let families = [
            Family { name: "a_total", kind: Kind::Counter, help: "A." },
            Family { name: "b", kind: Kind::Gauge, help: "B." },
        ];
        let mut exposition = Exposition::new(&families);
        exposition.add("a_total", &[("x", "say \"hi\"\\\n"), ("y", "1")], 3.0);
        exposition.add("a_total", &[], 0.5);
        let mut out = String::new();
        exposition.write(&mut out);
        assert_eq!(
            out,
            "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"say \\\"hi\\\"\\\\\\n\",y=\"1\"} 3\na_total 0.5\n\n# HELP b B.\n# TYPE b gauge\n\n"
        );
    }
}
