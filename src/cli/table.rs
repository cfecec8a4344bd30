//! Columns for a terminal: each as wide as its widest cell, two blanks between them.

use std::fmt;

/// A head and its rows.
pub(super) struct Table(Vec<Vec<String>>);

impl Table {
    pub(super) fn new(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Self {
        let head = head.iter().map(|cell| (*cell).to_owned()).collect();
        Self(std::iter::once(head).chain(rows).collect())
    }
}

/// Without a line break at the end.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        let wide = |cell: &String| cell.chars().count();
        let widths: Vec<usize> = (0..columns)
            .map(|at| self.0.iter().filter_map(|row| row.get(at)).map(wide).max().unwrap_or(0))
            .collect();
        for (at, row) in self.0.iter().enumerate() {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            write!(f, "{}{}", if at == 0 { "" } else { "\n" }, line.trim_end())?;
        }
        Ok(())
    }
}
