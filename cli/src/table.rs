//! Columns of text.

use crate::progress::text;

/// The gap between two columns, in spaces.
const GAP: usize = 3;

/// A table with a header row. Columns are as wide as their widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
    gap: usize,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let mut table = Self { rows: Vec::new(), gap: GAP };
        table.row(headings.iter().map(|h| (*h).to_owned()));
        table
    }

    /// The same with another gap between its columns.
    #[must_use]
    pub fn gap(self, gap: usize) -> Self {
        Self { gap, ..self }
    }

    /// Adds a row; control characters in it are left out.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|c| text::clean(&c, false)).collect());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |c: usize| {
            self.rows.iter().filter_map(|r| r.get(c)).map(|s| text::width(s)).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - text::width(cell) + self.gap));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// How long ago something was, as docker says it: `3 hours ago`.
pub fn ago(seconds: i64) -> String {
    let s = seconds.max(0);
    let (count, unit) = match s {
        0 => return "just now".to_owned(),
        1..60 => (s, "second"),
        60..3600 => (s / 60, "minute"),
        3600..172_800 => (s / 3600, "hour"),
        172_800..1_209_600 => (s / 86_400, "day"),
        1_209_600..5_184_000 => (s / 604_800, "week"),
        5_184_000..63_072_000 => (s / 2_592_000, "month"),
        _ => (s / 31_536_000, "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["NAME", "SIZE"]);
        table.row(["app".to_owned(), "1.20MB".to_owned()]);
        table.row(["日本語\u{1b}[2J".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "NAME     SIZE\napp      1.20MB\n日本語\n");
    }

    #[test]
    fn ages() {
        for (seconds, text) in [
            (-5, "just now"),
            (1, "1 second ago"),
            (119, "1 minute ago"),
            (7200, "2 hours ago"),
            (200_000, "2 days ago"),
            (31_536_000 * 3, "3 years ago"),
        ] {
            assert_eq!(ago(seconds), text);
        }
    }
}
