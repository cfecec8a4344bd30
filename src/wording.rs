//! Numbers of things, lists that are cut, spans of time and days, as all texts for people have them.

use std::time::Duration;

use jiff::civil::Date;

/// A number of things.
pub(crate) struct Number(u64);

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self(number.into())
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl From<usize> for Number {
    fn from(number: usize) -> Self {
        Self(number as u64)
    }
}

/// "1 call", "2 calls".
pub(crate) fn count(number: impl Into<Number>, noun: &str) -> String {
    let Number(number) = number.into();
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// The first `most` of them, and how many more there are: "a, b and 3 more".
pub(crate) fn first<T: ToString>(all: impl IntoIterator<Item = T>, most: usize) -> String {
    let mut all = all.into_iter();
    let named: Vec<String> = all.by_ref().take(most).map(|one| one.to_string()).collect();
    let named = named.join(", ");
    match all.count() {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// In the largest unit that says it well, rounded: "90 s", "2 min", "3 h", "2 days".
pub(crate) fn span(span: Duration) -> String {
    let units = |unit: u64| (span.as_secs_f64() / unit as f64).round();
    match span.as_secs() {
        0..120 => format!("{} s", units(1)),
        120..7200 => format!("{} min", units(60)),
        7200..172_800 => format!("{} h", units(3600)),
        _ => format!("{} days", units(86_400)),
    }
}

/// A day near today: "27 November", of another year "27 November 2025".
pub(crate) fn date(day: Date, today: Date) -> String {
    let form = if day.year() == today.year() { "%-d %B" } else { "%-d %B %Y" };
    day.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_one_unit() {
        for (ms, told) in [
            (0, "0 s"),
            (15_400, "15 s"),
            (119_000, "119 s"),
            (120_000, "2 min"),
            (3_600_000, "60 min"),
            (12_600_000, "4 h"),
            (172_800_000, "2 days"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), told);
        }
        assert!(span(Duration::MAX).ends_with(" days"));
    }
}
