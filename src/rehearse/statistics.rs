//! What so many failures among so many calls say about AWS's line of 2 %. Pure.

use serde::Serialize;

/// AWS: "if the error rate is greater than 2 percent", the proxy is in doubt.
pub(crate) const LINE: f64 = 0.02;
/// Of the interval: 95 of 100 such intervals hold the true ratio.
const OUTSIDE: f64 = 0.05;
/// The sequential test decides between these two true ratios, and is wrong about either in one case of
/// twenty at most.
const GOOD: f64 = 0.01;
const BAD: f64 = 0.03;
const WRONG: f64 = 0.05;
/// More calls than anybody rehearses.
const MOST: u32 = 1_000_000;

/// In AWS's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Names on the allow list, through the proxy.
    #[serde(rename = "stay_with_option_1")]
    Stay,
    /// Address ranges, past the proxy.
    #[serde(rename = "consider_option_2")]
    Consider,
    Inconclusive,
}

/// Where the true ratio of failures lies, with 95 % confidence: the exact interval of Clopper and
/// Pearson. From 0 to 1 where there were no calls.
pub(crate) fn interval(failed: u32, calls: u32) -> [f64; 2] {
    let low = match failed {
        0 => 0.0,
        // The ratio at which so many failures or more are as unlikely as that.
        _ => root(|ratio| 1.0 - at_most(failed - 1, calls, ratio) < OUTSIDE / 2.0),
    };
    let high = match failed {
        _ if failed >= calls => 1.0,
        _ => root(|ratio| at_most(failed, calls, ratio) > OUTSIDE / 2.0),
    };
    [low, high]
}

/// The verdict by the interval.
pub(crate) fn judge(failed: u32, calls: u32) -> Verdict {
    match interval(failed, calls) {
        [_, high] if high < LINE => Verdict::Stay,
        [low, _] if low > LINE => Verdict::Consider,
        _ => Verdict::Inconclusive,
    }
}

/// How many calls it takes in all until the interval says one or the other, should failures go on at
/// this ratio; none where that is the line itself, or nearly so.
pub(crate) fn needed(failed: u32, calls: u32) -> Option<u32> {
    let ratio = f64::from(failed) / f64::from(calls.max(1));
    let decides =
        |calls: u32| judge((ratio * f64::from(calls)).round() as u32, calls) != Verdict::Inconclusive;
    // The interval narrows with the calls: rounding makes steps of single calls that don't matter.
    let (mut low, mut high) = (calls, calls.max(1));
    while !decides(high) {
        low = high;
        high = high.checked_mul(2).filter(|high| *high <= MOST)?;
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if decides(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

/// Wald's sequential test: what is known after each call, at the cost of as few calls as can be.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sequential {
    /// Logarithm of how much better the bad ratio explains what was seen than the good one.
    evidence: f64,
}

impl Sequential {
    /// Counts one call.
    pub(crate) fn saw(&mut self, failed: bool) {
        self.evidence += match failed {
            true => (BAD / GOOD).ln(),
            false => ((1.0 - BAD) / (1.0 - GOOD)).ln(),
        };
    }

    /// [`Verdict::Inconclusive`] as long as it takes more calls.
    pub(crate) fn verdict(self) -> Verdict {
        let bound = ((1.0 - WRONG) / WRONG).ln();
        match self.evidence {
            evidence if evidence >= bound => Verdict::Consider,
            evidence if evidence <= -bound => Verdict::Stay,
            _ => Verdict::Inconclusive,
        }
    }

    /// How many more calls without a failure would end it well.
    pub(crate) fn clean_calls_left(self) -> u32 {
        let bound = ((1.0 - WRONG) / WRONG).ln();
        let step = ((1.0 - GOOD) / (1.0 - BAD)).ln();
        ((self.evidence + bound) / step).ceil().max(0.0) as u32
    }
}

/// Where a condition that holds up to some ratio and not beyond stops to hold.
fn root(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    // As fine as a float between 0 and 1 gets.
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if holds(middle) { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// The probability of at most `failed` failures among `calls`, at this true ratio.
fn at_most(failed: u32, calls: u32, ratio: f64) -> f64 {
    if ratio <= 0.0 {
        return 1.0;
    }
    if ratio >= 1.0 {
        return if failed >= calls { 1.0 } else { 0.0 };
    }
    let (n, odds) = (f64::from(calls), (ratio / (1.0 - ratio)).ln());
    // Of none; each further term from the one before, as logarithms: they are tiny.
    let mut term = n * (1.0 - ratio).ln();
    let mut sum = term.exp();
    for k in 0..failed {
        let k = f64::from(k);
        term += ((n - k) / (k + 1.0)).ln() + odds;
        sum += term.exp();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(value: f64, expected: f64) -> bool {
        (value - expected).abs() < 5e-5
    }

    /// As R's `binom.test` has them.
    #[test]
    fn the_interval_is_the_exact_one() {
        for (failed, calls, low, high) in [
            (0, 200, 0.0, 0.018275),
            (1, 200, 0.000127, 0.027540),
            (8, 200, 0.017436, 0.077274),
            (9, 200, 0.020786, 0.083653),
            (200, 200, 0.981725, 1.0),
            (3, 500, 0.001239, 0.017436),
            (0, 0, 0.0, 1.0),
        ] {
            let [got_low, got_high] = interval(failed, calls);
            assert!(near(got_low, low) && near(got_high, high), "{failed} of {calls}: {got_low} {got_high}");
        }
    }

    #[test]
    fn the_verdict_falls_where_the_line_is_left() {
        let ranges = [(200, 0, 9), (500, 3, 18), (1000, 11, 30)];
        for (calls, stays_up_to, considers_from) in ranges {
            for failed in 0..60 {
                let expected = match failed {
                    f if f <= stays_up_to => Verdict::Stay,
                    f if f >= considers_from => Verdict::Consider,
                    _ => Verdict::Inconclusive,
                };
                assert_eq!(judge(failed, calls), expected, "{failed} of {calls}");
            }
        }
        assert_eq!(judge(0, 0), Verdict::Inconclusive);
        assert_eq!(judge(0, 100), Verdict::Inconclusive, "too few to know");
    }

    #[test]
    fn calls_needed_decide() {
        for (failed, calls) in [(1, 200), (2, 200), (3, 200), (8, 200), (6, 200), (0, 10), (1, 20)] {
            let needed = needed(failed, calls).unwrap();
            assert!(needed >= calls);
            let ratio = f64::from(failed) / f64::from(calls);
            assert_ne!(judge((ratio * f64::from(needed)).round() as u32, needed), Verdict::Inconclusive);
        }
        assert_eq!(needed(4, 200), None, "on the line itself nothing decides");
    }

    #[test]
    fn the_sequential_test_ends() {
        let mut test = Sequential::default();
        let clean = test.clean_calls_left();
        assert_eq!(clean, 145);
        for _ in 0..clean {
            assert_eq!(test.verdict(), Verdict::Inconclusive);
            test.saw(false);
        }
        assert_eq!(test.verdict(), Verdict::Stay);
        let mut test = Sequential::default();
        test.saw(true);
        assert_eq!(test.clean_calls_left(), 145 + 54);
        for _ in 0..2 {
            test.saw(true);
        }
        assert_eq!(test.verdict(), Verdict::Consider);
    }

    /// Wald's bounds promise each error in one case of nineteen at most; with three deviations of what
    /// 2,000 rehearsals with a fixed seed may show.
    #[test]
    fn the_sequential_test_is_rarely_wrong() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut verdicts = |ratio: f64| -> Vec<Verdict> {
            let mut run = || {
                let mut test = Sequential::default();
                while test.verdict() == Verdict::Inconclusive {
                    test.saw(random.f64() < ratio);
                }
                test.verdict()
            };
            (0..2000).map(|_| run()).collect()
        };
        let count = |all: &[Verdict], wanted| all.iter().filter(|verdict| **verdict == wanted).count();
        assert!(count(&verdicts(GOOD), Verdict::Consider) <= 135);
        assert!(count(&verdicts(BAD), Verdict::Stay) <= 135);
        assert_eq!(count(&verdicts(0.0), Verdict::Stay), 2000);
    }

    /// What AWS's 200 calls can tell, and what they can't: 200 rehearsals each, with a fixed seed.
    #[test]
    fn two_hundred_calls_mislead_nobody() {
        let mut random = fastrand::Rng::with_seed(11);
        let mut verdicts = |ratio: f64| -> Vec<Verdict> {
            let mut run = || judge((0..200).filter(|_| random.f64() < ratio).count() as u32, 200);
            (0..200).map(|_| run()).collect()
        };
        let count = |all: &[Verdict], wanted| all.iter().filter(|verdict| **verdict == wanted).count();
        assert_eq!(count(&verdicts(0.0), Verdict::Stay), 200);
        assert_eq!(count(&verdicts(0.005), Verdict::Consider), 0);
        let five = verdicts(0.05);
        assert_eq!(count(&five, Verdict::Stay), 0);
        assert!(count(&five, Verdict::Consider) > 100);
    }

    proptest! {
        #[test]
        fn the_interval_holds_what_was_seen(calls in 1..3000_u32, share in 0.0..=1.0_f64) {
            let failed = (share * f64::from(calls)) as u32;
            let [low, high] = interval(failed, calls);
            let seen = f64::from(failed) / f64::from(calls);
            prop_assert!((0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high));
            prop_assert!(low <= seen && seen <= high);
            // At its ends what was seen is as unlikely as promised.
            if failed > 0 {
                prop_assert!((1.0 - at_most(failed - 1, calls, low) - OUTSIDE / 2.0).abs() < 1e-6);
            }
            if failed < calls {
                prop_assert!((at_most(failed, calls, high) - OUTSIDE / 2.0).abs() < 1e-6);
            }
        }
    }
}
