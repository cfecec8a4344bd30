//! What a desk's browser sends back. It comes from a client, so that anything can stand in it: it is bounded
//! in size by the reader, only hosts of the plan are looked up in it, and its texts are shown as texts.

use std::time::Duration;

use serde::Deserialize;

/// The largest report in bytes, as the contract has it.
pub const LARGEST: usize = 16 << 10;
/// No check takes longer: nine seconds of tests, then five waits of at most a minute each for a place among the
/// reports. A longer time in a report is none.
const LONGEST: Duration = Duration::from_secs(330);
/// Characters kept of a browser's name.
const NAME: usize = 200;

/// A report, as it came. Unknown keys are let alone: the page may be that of another version.
#[derive(Debug, Default, Deserialize)]
pub struct Report {
    /// From the first test until the report was sent, waits for a place among the reports included.
    #[serde(default)]
    took_ms: u32,
    /// What the browser calls itself.
    #[serde(default)]
    browser: String,
    /// Whether the browser has WebRTC at all.
    #[serde(default)]
    pub webrtc: bool,
    #[serde(default)]
    hosts: Vec<Tried>,
    #[serde(default)]
    media: Vec<Gathered>,
}

/// What came of a host that was asked over https.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tried {
    host: String,
    pub result: Answer,
    /// Until it was known.
    #[serde(default)]
    pub ms: u32,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Some answer came, whatever it says.
    Answered,
    Failed,
    /// Nothing came in the time of the check.
    Silent,
}

/// What the browser told of its way to a media endpoint, with credentials that are none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Gathered {
    host: String,
    pub state: State,
    /// The codes of its `icecandidateerror` events.
    #[serde(default)]
    pub codes: Vec<u16>,
    /// Their texts; Firefox has none.
    #[serde(default)]
    pub texts: Vec<String>,
    /// Until the first code that decides, or the end.
    #[serde(default)]
    pub ms: u32,
}

/// How far the browser came with gathering candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It never began.
    New,
    Gathering,
    Complete,
}

impl Report {
    /// Reads a report.
    ///
    /// # Errors
    /// What is wrong, with line and column, in words that hold no control characters.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| shown(&error.to_string(), NAME))
    }

    /// How long ago the check began: as far back as tunnels of it are looked for.
    #[must_use]
    pub fn took(&self) -> Duration {
        Duration::from_millis(self.took_ms.into()).min(LONGEST)
    }

    /// The browser's name, cut, without control characters.
    #[must_use]
    pub fn browser(&self) -> String {
        shown(&self.browser, NAME)
    }

    /// What is said of a host; of several the first counts.
    #[must_use]
    pub fn host(&self, host: &str) -> Option<&Tried> {
        self.hosts.iter().find(|tried| tried.host == host)
    }

    /// What is said of a media endpoint.
    #[must_use]
    pub fn media(&self, host: &str) -> Option<&Gathered> {
        self.media.iter().find(|gathered| gathered.host == host)
    }
}

/// A text from outside, at most so many characters of it, on one line.
fn shown(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_report_is_read_and_what_is_wrong_is_said() {
        let report = Report::read(
            br#"{"took_ms":9100,"browser":"Mozilla/5.0\u0007","webrtc":true,"stranger":[],
                "hosts":[{"host":"a.example","result":"answered","ms":80},{"host":"a.example","result":"failed"}],
                "media":[{"host":"t.example","state":"complete","codes":[701,401],"texts":["x",""],"ms":90}]}"#,
        )
        .unwrap();
        assert_eq!(report.took(), Duration::from_millis(9100));
        assert_eq!(report.browser(), "Mozilla/5.0 ");
        assert_eq!(report.host("a.example").unwrap().result, Answer::Answered);
        assert_eq!(report.media("t.example").unwrap().codes, [701, 401]);
        assert!(report.host("b.example").is_none());
        for (wrong, says) in [
            ("", "EOF"),
            ("[1", "line 1 column"),
            ("{\"took_ms\":-1}", "u32"),
            ("{\"hosts\":[{\"host\":\"a\",\"result\":\"<b>\"}]}", "answered"),
            ("{\"media\":[{\"host\":\"a\",\"state\":\"new\",\"codes\":[70000]}]}", "u16"),
        ] {
            let why = Report::read(wrong.as_bytes()).unwrap_err();
            assert!(why.contains(says), "{wrong}: {why}");
        }
    }

    #[test]
    fn a_time_of_years_is_cut() {
        assert_eq!(Report::read(b"{\"took_ms\":4294967295}").unwrap().took(), LONGEST);
    }

    proptest! {
        /// Whatever comes, what is shown is one short line.
        #[test]
        fn what_is_shown_is_one_line(bytes in proptest::collection::vec(any::<u8>(), 0..300), name in "\\PC{0,400}|[\\x00-\\x9f]{0,400}") {
            if let Err(why) = Report::read(&bytes) {
                prop_assert!(why.chars().count() <= NAME && !why.contains(char::is_control));
            }
            let report = Report { browser: name, ..Report::default() };
            let shown = report.browser();
            prop_assert!(shown.chars().count() <= NAME && !shown.contains(char::is_control));
        }
    }
}
