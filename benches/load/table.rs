//! The table of figures: medians over the repetitions, the bare relay's beside ccpgate's.

/// What one part of a run found, by figure.
pub(crate) type Figures = Vec<(&'static str, f64)>;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Bare,
    Ccpgate,
}

/// What each repetition found, by figure: the bare relay's and ccpgate's.
#[derive(Default)]
pub(crate) struct Table(Vec<(&'static str, [Vec<f64>; 2])>);

impl Table {
    pub(crate) fn add(&mut self, kind: Kind, figures: Figures) {
        for (name, value) in figures {
            let at = self.0.iter().position(|(n, _)| *n == name).unwrap_or_else(|| {
                self.0.push((name, Default::default()));
                self.0.len() - 1
            });
            self.0[at].1[kind as usize].push(value);
        }
    }

    pub(crate) fn print(mut self, repetitions: usize) {
        println!("| medians of {repetitions} | bare relay | ccpgate | ratio |\n| --- | --- | --- | --- |");
        for (name, values) in &mut self.0 {
            let [bare, ours] = values.each_mut().map(|of_kind| {
                of_kind.sort_by(f64::total_cmp);
                of_kind[of_kind.len() / 2]
            });
            println!("| {name} | {bare:.2} | {ours:.2} | {:.2} |", ours / bare);
        }
    }
}
