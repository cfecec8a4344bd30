//! The table of figures: medians over the repetitions, the bare relay's beside ccpgate's.

/// What one part of a run found, by figure.
pub(crate) type Figures = Vec<(&'static str, f64)>;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Bare,
    Ccpgate,
    /// With the HTTPS listener.
    Secured,
}

/// What each repetition found, by figure, in two columns.
pub(crate) struct Table {
    heads: [&'static str; 2],
    rows: Vec<(&'static str, [Vec<f64>; 2])>,
}

impl Table {
    pub(crate) fn new(heads: [&'static str; 2]) -> Self {
        Self { heads, rows: Vec::new() }
    }

    pub(crate) fn add(&mut self, column: usize, figures: Figures) {
        for (name, value) in figures {
            let at = self.rows.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
                self.rows.push((name, Default::default()));
                self.rows.len() - 1
            });
            self.rows[at].1[column].push(value);
        }
    }

    pub(crate) fn print(mut self, repetitions: usize) {
        if self.rows.is_empty() {
            return;
        }
        let [one, other] = self.heads;
        println!("| medians of {repetitions} | {one} | {other} | ratio |\n| --- | --- | --- | --- |");
        for (name, values) in &mut self.rows {
            let [one, other] = values.each_mut().map(|of_kind| {
                of_kind.sort_by(f64::total_cmp);
                of_kind[of_kind.len() / 2]
            });
            println!("| {name} | {one:.2} | {other:.2} | {:.2} |", other / one);
        }
    }
}
