use proptest::prelude::*;

use super::*;
use crate::catalogue::Text;

fn first(text: &str) -> Option<&'static str> {
    explain(text).matches.first().map(|found| found.id)
}

/// Every text as the panel shows it; sequences with something between.
fn every_text() -> impl Iterator<Item = (&'static str, String)> {
    symptoms().iter().flat_map(|row| {
        row.texts.iter().map(|text| match text {
            Text::One(text) => (row.id.as_str(), text.clone()),
            Text::InOrder(texts) => (row.id.as_str(), texts.join(" … ")),
        })
    })
}

#[test]
fn every_text_gives_its_row() {
    for (id, text) in every_text() {
        assert_eq!(first(&text), Some(id), "{text}");
        assert_eq!(first(&text.to_uppercase()), Some(id), "{text}");
        let in_log = format!("2026-11-27T09:03:11.120Z ERROR softphone 7f3a SESSION {text}");
        if text.len() >= 12 {
            assert_eq!(first(&in_log), Some(id), "{in_log}");
        }
    }
}

fn mistype(text: &mut Vec<char>, kind: usize, at: usize, letter: char) {
    let at = at % text.len();
    match kind {
        0 => text.insert(at, letter),
        1 if text.len() > 4 => {
            text.remove(at);
        }
        2 => text[at] = letter,
        _ => {
            let other = (at + 1).min(text.len() - 1);
            text.swap(at, other);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn two_typing_errors_change_nothing(
        kinds in (0_usize..4, 0_usize..4),
        places in (any::<u16>(), any::<u16>()),
        letters in ("[a-z]", "[a-z]"),
    ) {
        for (id, text) in every_text().filter(|(_, text)| text.len() >= 8) {
            let mut typed: Vec<char> = text.chars().collect();
            mistype(&mut typed, kinds.0, places.0.into(), letters.0.chars().next().unwrap());
            mistype(&mut typed, kinds.1, places.1.into(), letters.1.chars().next().unwrap());
            let typed: String = typed.into_iter().collect();
            prop_assert_eq!(first(&typed), Some(id), "{:?} for {:?}", typed, text);
        }
    }

    /// Of words that no known text has; with others "network of late" comes close to "Network offline".
    #[test]
    fn other_sentences_match_nothing(words in proptest::collection::vec(0..WORDS.len(), 8..40)) {
        let sentence: Vec<&str> = words.into_iter().map(|at| WORDS[at]).collect();
        prop_assert_eq!(first(&sentence.join(" ")), None);
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,400}") {
        let answer = explain(&text);
        prop_assert!(answer.matches.iter().all(|m| m.similarity > 0.0 && m.similarity <= 1.0));
        prop_assert!(!answer.to_string().is_empty());
    }
}

const WORDS: &[&str] = &[
    "morning",
    "coffee",
    "meeting",
    "Monday",
    "printer",
    "paper",
    "lunch",
    "train",
    "holiday",
    "green",
    "today",
    "keyboard",
    "question",
    "yesterday",
    "weather",
    "garden",
    "bicycle",
    "umbrella",
    "kitchen",
    "breakfast",
    "hungry",
    "purple",
    "mountain",
    "river",
    "sugar",
    "window",
    "birthday",
];

/// Half of it looks like another row, which must not hide what explains the whole.
#[test]
fn a_worse_match_hides_nothing() {
    assert_eq!(first("webrtc iyste error"), Some("webrtc-error"));
}

#[test]
fn a_short_word_stands_alone() {
    for typed in ["other", "ohter", "othr", "otherr", "oter", "Othre.", "pther"] {
        assert_eq!(first(typed), Some("other"), "{typed}");
    }
    assert_eq!((first("vdi"), first("the other one"), first("no")), (Some("vdi"), None, None));
}

#[test]
fn unrelated_sentences_match_nothing() {
    for sentence in [
        "The quick brown fox jumps over the lazy dog",
        "My printer is out of paper and the coffee machine is broken",
        "Please contact your administrator",
        "Can somebody book the meeting room for Monday morning?",
        "the other day we went to the office by train",
        "The network is slow today",
        "I can't find the invoice for our last order",
        "hello world",
        "the server was restarted at nine and everything is fine",
        "Our new colleague starts next week; please prepare a desk, a phone and a badge.",
        "",
        "?!",
        "日本語のテキスト",
    ] {
        let answer = explain(sentence);
        assert!(answer.matches.is_empty(), "{sentence}: {answer}");
    }
}

#[test]
fn the_tail_decides() {
    let banner = "Failed to establish softphone connection. Try again or contact your administrator";
    let answer = explain(banner);
    assert_eq!(answer.matches[0].categories[..2], [Category::Signalling, Category::Telecom]);
    assert!(answer.matches[0].decides.unwrap().contains("turn:"));
    for tail in [
        " with the following: Browser unable to establish media channel with \
         turn:TurnNlb-0123456789abcdef.elb.us-west-2.amazonaws.com:3478?transport=udp",
        " turn:TurnNlb-0123456789abcdef.elb.us-west-2.amazonaws.com:3478",
    ] {
        let answer = explain(&format!("{banner}{tail}"));
        let ids: Vec<&str> = answer.matches.iter().map(|m| m.id).collect();
        assert_eq!(ids, ["softphone-turn"]);
        assert_eq!(answer.matches[0].categories, [Category::Media]);
    }
}

#[test]
fn what_comes_before_no_candidate_decides() {
    let both = explain("WARN ICE collection timed out\n09:00:08 ERROR No ICE candidate");
    assert_eq!(both.matches.len(), 1, "{both}");
    assert!(both.matches[0].means.contains("UDP 3478 gets no answer"));
    let alone = explain("No ICE candidate");
    assert!(alone.matches[0].means.contains("DNS") && alone.matches[0].means.contains("policy"));
    assert_eq!(first("No ICE candidate, and later ICE collection timed out"), Some("no-candidate"));
}

#[test]
fn the_exception_decides() {
    assert_eq!(first("Failed handshaking with signaling server Timeout"), Some("handshake"));
    for name in ["UnknownSignalingError", "InternalServerException", "BadRequestException"] {
        let answer = explain(&format!("Failed handshaking with signaling server {name}"));
        assert_eq!(answer.matches.len(), 1, "{answer}");
        assert!(!answer.matches[0].network && answer.to_string().contains("not the network"));
    }
    let v1 = explain("signalling_connection_failure");
    assert_eq!(v1.matches[0].categories, [Category::Telecom]);
    assert!(v1.matches[0].means.contains("v2 can't raise"));
}

#[test]
fn a_megabyte_is_cut() {
    let answer = explain(&"No ICE candidate ".repeat(1 << 16));
    assert!(answer.cut && answer.symptom.len() == LONGEST);
    assert_eq!(answer.matches.len(), 1);
}
