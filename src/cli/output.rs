//! What commands print: tables for people, JSON for programs.

use std::io::Write as _;

use serde::Serialize;

/// Between two columns.
const GAP: &str = "  ";

/// To standard output. A reader that has gone (`| head`) is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

pub fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}

/// Columns as wide as their widest cell; numbers to the right.
pub struct Table {
    headers: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(headers: [&'static str; N]) -> Self {
        Self { headers: headers.into(), rows: Vec::new() }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(cells.len(), self.headers.len(), "a cell for each column");
        self.rows.push(cells.into());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn render(&self) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([self.headers[at].chars().count()]).max().unwrap_or(0)
        };
        let columns: Vec<(usize, bool)> =
            (0..self.headers.len()).map(|at| (width(at), self.is_numeric(at))).collect();
        let mut out = String::new();
        let headers: Vec<String> = self.headers.iter().map(ToString::to_string).collect();
        for row in std::iter::once(&headers).chain(&self.rows) {
            let mut line = String::new();
            for (cell, (width, is_numeric)) in row.iter().zip(&columns) {
                let padded =
                    if *is_numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
                line.push_str(&padded);
                line.push_str(GAP);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn is_numeric(&self, at: usize) -> bool {
        let is_number = |cell: &str| cell == "-" || cell.chars().all(|c| c.is_ascii_digit());
        !self.rows.is_empty() && self.rows.iter().all(|row| is_number(&row[at]))
    }
}

/// `-` for nothing.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

pub fn list<T: ToString>(values: &[T]) -> String {
    if values.is_empty() {
        return "-".to_owned();
    }
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// `1 topic`, `2 topics`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// `1.5 KiB`; whole below a KiB.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `90 ms`, `1.5 s`, `3 min`: as precise as a person wants it.
pub fn seconds(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "0".to_owned(),
        s if s < 0.01 => format!("{} ms", decimal(s * 1000.0, 2)),
        s if s < 1.0 => format!("{} ms", decimal(s * 1000.0, 1)),
        s if s < 120.0 => format!("{} s", decimal(s, 1)),
        s => format!("{} min", decimal(s / 60.0, 1)),
    }
}

/// Without zeros at the end.
pub fn decimal(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let mut table = Table::new(["NODE", "DC", "LEADS"]);
        table.row(["1".into(), "fra".into(), "12".into()]);
        table.row(["10".into(), "frankfurt".into(), "-".into()]);
        assert_eq!(
            table.render(),
            "NODE  DC         LEADS\n   1  fra           12\n  10  frankfurt      -\n"
        );
        assert_eq!(Table::new(["A", "B"]).render(), "A  B\n");
    }

    #[test]
    fn sizes_and_times_read_as_people_say_them() {
        for (size, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(bytes(size), text);
        }
        for (time, text) in [
            (0.0, "0"),
            (0.000_25, "0.25 ms"),
            (0.09, "90 ms"),
            (0.1234, "123.4 ms"),
            (1.5, "1.5 s"),
            (61.0, "61 s"),
            (180.0, "3 min"),
        ] {
            assert_eq!(seconds(time), text);
        }
        assert_eq!((list::<u32>(&[]), list(&[1, 2])), ("-".into(), "1,2".into()));
    }
}
