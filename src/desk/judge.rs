//! What a desk's report means, beside what the proxy saw of that desk in the same seconds.
//!
//! A host that the browser tried and the proxy saw nothing of went another way, whatever came of it there.
//! A media endpoint is judged by the codes and the end of the gathering, as browsers were measured to tell
//! them: any answer of the server (401 for credentials that are none) means that the way is open; an end of
//! the gathering with the browser's own code 701 alone, that the name isn't found; an end without any event,
//! that a policy forbids UDP; no end within nine seconds, silence.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::Verdict;
use super::plan::{Listed, Plan};
use super::report::{Answer, Gathered, Report, State};
use super::texts::{filled, text};
use crate::policy::Category;

/// Hosts that a sentence names.
const NAMED: usize = 3;
/// A browser that may not use UDP gives up at once; an end without an event that comes later is silence.
const AT_ONCE_MS: u32 = 5000;

/// What the proxy saw of the hosts that a desk tried.
#[derive(Debug, Default)]
pub struct Traces {
    /// Why the last attempt on a host came to nothing, by host; none where a tunnel stood.
    pub hosts: BTreeMap<Arc<str>, Option<&'static str>>,
    /// Whether nothing of those seconds was forgotten.
    pub complete: bool,
    /// Whether the proxy gives a target up before the page gives up waiting. Else it may still be at it, and
    /// have nothing to tell.
    pub prompt: bool,
}

/// How it is with a host or a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Untested,
    Ok,
    Failed,
    /// Not asked for through this proxy.
    Astray,
}

/// How it is with a media endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    Untested,
    Open,
    BrowserPolicy,
    UdpBlocked,
    TurnDns,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostResult {
    pub host: Arc<str>,
    pub status: Status,
    /// How the proxy's attempt ended; `tls_or_http` where its tunnel stood and the browser got no answer.
    pub because: Option<&'static str>,
    pub ms: Option<u32>,
}

/// A category with its hosts; it is as its worst host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CategoryResult {
    pub status: Status,
    pub hosts: Vec<HostResult>,
}

/// One media endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MediaResult {
    pub host: Arc<str>,
    pub status: Way,
    pub ms: Option<u32>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// In English.
    pub sentence: String,
    pub categories: BTreeMap<Category, CategoryResult>,
    pub media: Vec<MediaResult>,
    /// Hosts and media endpoints that the page left out.
    pub left_out: usize,
    /// What the sentence is made of, for other languages.
    #[serde(skip)]
    pub said: Said,
}

/// A sentence of the table of texts, and what fills its gaps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    pub key: &'static str,
    pub hosts: Vec<Arc<str>>,
    pub categories: Vec<Category>,
    pub count: usize,
    pub all: usize,
}

/// Judges a report; none that says nothing of the plan.
#[must_use]
pub fn judge(plan: &Plan, report: &Report, traces: &Traces) -> Option<Judgement> {
    let mut categories: BTreeMap<Category, CategoryResult> = BTreeMap::new();
    let none = || CategoryResult { status: Status::Untested, hosts: Vec::new() };
    for category in &plan.untested {
        categories.insert(*category, none());
    }
    for listed in &plan.hosts {
        let one = host(listed, report, traces);
        let category = categories.entry(listed.category).or_insert_with(none);
        category.status = category.status.max(one.status);
        category.hosts.push(one);
    }
    let media: Vec<MediaResult> = plan.media.iter().map(|host| way(host, report)).collect();
    let tested = categories.values().any(|category| category.status != Status::Untested);
    if !tested && media.iter().all(|one| one.status == Way::Untested) {
        return None;
    }
    let (verdict, said) = verdict(&categories, &media);
    let sentence = said.in_english();
    Some(Judgement { verdict, sentence, categories, media, left_out: plan.left_out, said })
}

fn host(listed: &Listed, report: &Report, traces: &Traces) -> HostResult {
    let Some(tried) = report.host(&listed.host) else {
        return HostResult { host: listed.host.clone(), status: Status::Untested, because: None, ms: None };
    };
    let answered = tried.result == Answer::Answered;
    let (status, because) = match traces.hosts.get(&listed.host) {
        Some(_) if answered => (Status::Ok, None),
        Some(why) => (Status::Failed, Some(why.unwrap_or("tls_or_http"))),
        None if traces.complete && (traces.prompt || tried.result != Answer::Silent) => {
            (Status::Astray, None)
        }
        None if answered => (Status::Ok, None),
        None => (Status::Failed, None),
    };
    HostResult { host: listed.host.clone(), status, because, ms: Some(tried.ms) }
}

fn way(host: &Arc<str>, report: &Report) -> MediaResult {
    let gathered = report.media(host);
    let status = match gathered {
        None => Way::Untested,
        Some(_) if !report.webrtc => Way::BrowserPolicy,
        Some(gathered) => of_gathered(gathered),
    };
    MediaResult { host: host.clone(), status, ms: gathered.map(|gathered| gathered.ms) }
}

fn of_gathered(gathered: &Gathered) -> Way {
    // 300 to 699 are codes of a server; 701 is the browser's own.
    if gathered.codes.iter().any(|code| (300..700).contains(code)) {
        return Way::Open;
    }
    match gathered.state {
        State::New => Way::BrowserPolicy,
        State::Gathering => Way::UdpBlocked,
        State::Complete if gathered.codes.is_empty() && gathered.ms < AT_ONCE_MS => Way::BrowserPolicy,
        State::Complete if gathered.codes.is_empty() => Way::UdpBlocked,
        // Chromium says what failed, Firefox nothing.
        State::Complete if gathered.texts.iter().all(|t| t.is_empty() || t.contains("lookup")) => {
            Way::TurnDns
        }
        State::Complete => Way::UdpBlocked,
    }
}

/// The first of them that holds, in the order of the contract: without the proxy nothing else is sure, and
/// without a voice path there are no calls.
fn verdict(categories: &BTreeMap<Category, CategoryResult>, media: &[MediaResult]) -> (Verdict, Said) {
    let with = |status| -> Vec<Arc<str>> {
        let hosts = categories.values().flat_map(|category| &category.hosts);
        hosts.filter(|one| one.status == status).map(|one| one.host.clone()).collect()
    };
    let said = |key| Said { key, hosts: Vec::new(), categories: Vec::new(), count: 0, all: 0 };
    let astray = with(Status::Astray);
    if !astray.is_empty() {
        let all = with(Status::Ok).is_empty() && with(Status::Failed).is_empty();
        let key = if all { "not_through_proxy_all" } else { "not_through_proxy_some" };
        return (Verdict::NotThroughProxy, Said { hosts: astray, ..said(key) });
    }
    let all = media.iter().filter(|one| one.status != Way::Untested).count();
    for (way, verdict, keys) in [
        (Way::TurnDns, Verdict::TurnDns, ["turn_dns_all", "turn_dns_some"]),
        (Way::UdpBlocked, Verdict::UdpBlocked, ["udp_blocked_all", "udp_blocked_some"]),
        (Way::BrowserPolicy, Verdict::BrowserPolicy, ["browser_policy"; 2]),
    ] {
        let count = media.iter().filter(|one| one.status == way).count();
        if count > 0 {
            return (verdict, Said { count, all, ..said(keys[usize::from(count < all)]) });
        }
    }
    let failed = with(Status::Failed);
    if failed.is_empty() {
        return (Verdict::Ok, said("ok"));
    }
    let words = categories.iter().filter(|(_, category)| category.status == Status::Failed);
    let categories = words.map(|(category, _)| *category).collect();
    (Verdict::CategoryUnreachable, Said { hosts: failed, categories, ..said("category_unreachable") })
}

impl Said {
    /// The sentence, its gaps filled. The page does the same in its language.
    fn in_english(&self) -> String {
        let mut hosts = self.hosts.iter().take(NAMED).map(|host| &**host).collect::<Vec<_>>().join(", ");
        if let more @ 1.. = self.hosts.len().saturating_sub(NAMED) {
            hosts.push_str(&filled("and_more", &[("count", more.to_string())]));
        }
        let word = |category: &Category| filled(&format!("category_{}", category.as_str()), &[]);
        let categories = self.categories.iter().map(word).collect::<Vec<_>>().join(text("and"));
        let (count, all) = (self.count.to_string(), self.all.to_string());
        filled(self.key, &[("hosts", hosts), ("categories", categories), ("count", count), ("all", all)])
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
