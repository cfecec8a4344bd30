//! How similar two texts are, for texts that somebody read aloud, typed, or cut out of a log.
//!
//! Letters and digits count, everything else only separates words. Typing errors are a letter too
//! many, too few, another one, or two that changed places. Time and memory are bounded by the
//! lengths of both texts; callers bound those.

/// A text in the form that is compared: lower case, words of letters and digits, one blank between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Normal(Vec<char>, Letters);

/// How often each letter and digit stands in a text; all others are one.
type Letters = [u16; 37];

impl Normal {
    /// Looks at the first `limit` characters.
    #[must_use]
    pub(crate) fn new(text: &str, limit: usize) -> Self {
        let mut normal = Vec::new();
        for c in text.chars().take(limit).flat_map(char::to_lowercase) {
            if c.is_alphanumeric() {
                normal.push(c);
            } else if normal.last().is_some_and(|last| *last != ' ') {
                normal.push(' ');
            }
        }
        if normal.last() == Some(&' ') {
            normal.pop();
        }
        let mut letters = [0_u16; 37];
        for c in normal.iter().filter(|c| **c != ' ') {
            let at = match c {
                'a'..='z' => *c as usize - 'a' as usize,
                '0'..='9' => *c as usize - '0' as usize + 26,
                _ => 36,
            };
            letters[at] = letters[at].saturating_add(1);
        }
        Self(normal, letters)
    }

    /// How many letters another text lacks of this one: so many errors at least, cheaply.
    fn lacking(&self, other: &Self) -> usize {
        self.1.iter().zip(&other.1).map(|(mine, its)| usize::from(mine.saturating_sub(*its))).sum()
    }

    /// In characters.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where a text occurs in this one, at `from` or later, without errors and as whole words. A text
    /// shorter than 8 characters is never found: it may not stand inside another.
    #[must_use]
    pub(crate) fn position(&self, part: &Self, from: usize) -> Option<usize> {
        if part.len() < INSIDE {
            return None;
        }
        let (text, size) = (&self.0, part.len());
        let edge = |at: usize| at == 0 || at == text.len() || text[at] == ' ' || text[at - 1] == ' ';
        (from..(text.len() + 1).saturating_sub(size)).find(|at| {
            text[*at] == part.0[0] && text[*at..at + size] == part.0[..] && edge(*at) && edge(at + size)
        })
    }

    /// The beginnings of all words, as long as the shortest text that may stand inside another.
    pub(crate) fn beginnings(&self) -> impl Iterator<Item = &[char]> {
        let begins = |at: &usize| *at == 0 || self.0[*at - 1] == ' ';
        (0..(self.len() + 1).saturating_sub(INSIDE)).filter(begins).map(|at| &self.0[at..at + INSIDE])
    }

    fn words(&self) -> usize {
        self.0.split(|c| *c == ' ').count()
    }
}

/// Where a pattern lies in a text, and how many typing errors are in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// In characters of the normal form, the end excluded.
    pub start: usize,
    pub end: usize,
    pub errors: usize,
    /// How many characters of the pattern were found.
    pub found: usize,
    /// The text is only a part of the pattern.
    pub partial: bool,
}

/// The shortest text that is looked for inside another one; shorter ones have to be all of it.
const INSIDE: usize = 8;

/// The best match of the pattern, if it is good enough: the pattern inside the text, the pattern against
/// the whole text, or the text as a part of the pattern.
#[must_use]
pub(crate) fn find(pattern: &Normal, text: &Normal, from: usize) -> Option<Place> {
    if pattern.is_empty() || text.is_empty() || from >= text.len() {
        return None;
    }
    let (rest, size) = (&text.0[from..], pattern.len());
    let mut best: Option<Place> = None;
    let mut offer = |place: Option<Place>| {
        if let Some(place) = place
            && best.is_none_or(|known| (!place.partial, place.found) > (!known.partial, known.found))
        {
            best = Some(place);
        }
    };
    let shifted = |(start, end, errors): (usize, usize, usize), found: usize| Place {
        start: start + from,
        end: end + from,
        errors,
        found,
        partial: false,
    };
    let lacking = pattern.lacking(text);
    if size >= INSIDE && lacking <= inside(size) {
        let place = align(&pattern.0, rest, false);
        offer(place.filter(|p| p.2 <= inside(size)).map(|p| shifted(p, size - p.2.min(size))));
    }
    if from == 0 && text.len() <= 2 * size {
        let close = text.len().abs_diff(size).max(lacking) <= whole(size);
        let place = close.then(|| align(&pattern.0, rest, true)).flatten();
        offer(place.filter(|p| p.2 <= whole(size)).map(|p| shifted(p, size - p.2.min(size))));
        if text.len() >= 12
            && text.len() < size
            && text.words() > 1
            && text.lacking(pattern) <= inside(text.len())
        {
            let errors = align(&text.0, &pattern.0, false).map(|p| p.2);
            let errors = errors.filter(|errors| *errors <= inside(text.len()));
            offer(errors.map(|errors| Place {
                start: 0,
                end: text.len(),
                errors,
                found: text.len() - errors,
                partial: true,
            }));
        }
    }
    best
}

/// How many errors a text of that length may have among others.
const fn inside(length: usize) -> usize {
    match length {
        0..10 => 1,
        10..12 => 2,
        // Two errors at one place can look like three: a lost blank between letters that changed places.
        12..30 => 3,
        _ => 2 + (length - 10) / 10,
    }
}

/// How many errors a text of that length may have where it stands alone.
const fn whole(length: usize) -> usize {
    match length {
        0..5 => 0,
        5..8 => 2,
        // As above.
        8..20 => 3,
        _ => length / 5,
    }
}

/// The cheapest alignment of the whole pattern with a run of whole words of the text (or with all of
/// it): start, end, errors. Restricted Damerau distance, three rows.
fn align(pattern: &[char], text: &[char], all: bool) -> Option<(usize, usize, usize)> {
    let starts = |at: usize| if all { at == 0 } else { at == 0 || text[at - 1] == ' ' };
    let ends = |at: usize| if all { at == text.len() } else { at == text.len() || text[at] == ' ' };
    // Errors, and where the run began.
    let mut before: Vec<(usize, usize)> = Vec::new();
    let mut above: Vec<(usize, usize)> = Vec::with_capacity(text.len() + 1);
    for at in 0..=text.len() {
        // Letters of the run before the pattern's first letter are errors, too.
        above.push(match above.last() {
            Some((errors, start)) if !starts(at) => (errors + 1, *start),
            _ => (0, at),
        });
    }
    for (row, letter) in pattern.iter().enumerate() {
        let mut this = Vec::with_capacity(text.len() + 1);
        this.push((above[0].0 + 1, above[0].1));
        for (column, other) in text.iter().enumerate() {
            let add = |(errors, start): (usize, usize), more: usize| (errors + more, start);
            let mut cell = add(above[column], usize::from(letter != other));
            cell = cell.min(add(above[column + 1], 1)).min(add(this[column], 1));
            if row > 0 && column > 0 && *letter == text[column - 1] && pattern[row - 1] == *other {
                cell = cell.min(add(before[column - 1], 1));
            }
            this.push(cell);
        }
        before = std::mem::replace(&mut above, this);
    }
    let best = above.iter().enumerate().filter(|(at, _)| ends(*at)).min_by_key(|(_, cell)| cell.0)?;
    let (end, (errors, start)) = best;
    Some((*start, end, *errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> Normal {
        Normal::new(text, 1000)
    }

    fn errors(pattern: &str, text: &str) -> Option<usize> {
        find(&normal(pattern), &normal(text), 0).map(|place| place.errors)
    }

    #[test]
    fn normal_form() {
        let text: String = normal(" 'ICE_collection-timeout'!  TitLE\n").0.iter().collect();
        assert_eq!(text, "ice collection timeout title");
        assert_eq!(Normal::new(&"x ".repeat(1 << 20), 10).len(), 9);
        assert!(normal("?! \u{7}").is_empty());
    }

    #[test]
    fn typing_errors_count_one_each() {
        assert_eq!(errors("no ice candidate", "no ice candidate"), Some(0));
        assert_eq!(errors("no ice candidate", "no cie candidte"), Some(2));
        assert_eq!(errors("no ice candidate", "x 2026 SESSION No ICE candidate (y)"), Some(0));
        assert_eq!(errors("no ice candidate", "no rice for candid people"), None);
        assert_eq!(errors("turn turnnlb", "x failed turtnurnnlb"), Some(3));
        assert_eq!(errors("other", "ohtr"), Some(2));
        assert_eq!(errors("other", "the other day"), None, "short words stand alone");
        assert_eq!(errors("vdi", "vd"), None);
    }

    #[test]
    fn a_part_of_a_known_text_is_found() {
        assert_eq!(errors("failed to establish softphone connection", "establish softphone"), Some(0));
        assert_eq!(errors("failed to establish softphone connection", "to"), None);
    }
}
