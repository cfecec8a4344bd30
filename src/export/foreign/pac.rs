//! A PAC file as a list: what it sends to a proxy. Our own file is read; anybody else's is run by an
//! engine for JavaScript where the build has one, and else counts by the names in it.

use std::net::IpAddr;

use super::{Foreign, List};
use crate::export::shape::{Shape, name};
use crate::pac::own::Own;

/// Reads a file.
///
/// # Errors
/// A browser can't run it.
pub(super) fn pac(text: &str, list: &mut List) -> Result<(), String> {
    if let Some(own) = Own::recognise(text) {
        of_own(&own, list);
        return Ok(());
    }
    run(text, list)
}

/// The tables of our own file.
fn of_own(own: &Own, list: &mut List) {
    list.entries.extend(own.patterns().map(|(pattern, direct)| Foreign {
        text: pattern.to_string(),
        shape: Shape::Pattern(pattern),
        deny: direct,
    }));
    // What goes past the proxy does so whatever else lists it.
    list.entries.sort_by_key(|entry| !entry.deny);
}

/// Has an engine run the file. The names in it are still what is told of it; those that it sends past
/// every proxy aren't on its list.
#[cfg(feature = "pac-engine")]
fn run(text: &str, list: &mut List) -> Result<(), String> {
    use super::Judge;
    use crate::pac::answer::{Leads, leads};
    use crate::pac::engine::{Engine, Facts, Fault};

    /// Nobody names it; what it is answered holds for every other host.
    const NOBODY: &str = "x9k2m7q4.zz-7h3w9.example";

    let engine = Engine::read(text, Facts::default()).map_err(|fault| match fault {
        Fault::Broken(why) => format!("it has an error, so that browsers go past every proxy: {why}"),
        Fault::Exhausted(why) => format!("it can't be run: {why}"),
    })?;
    let ask = move |host: &str| match engine.ask(&format!("https://{host}/"), host) {
        Ok(answer) => Ok(answer),
        // As browsers go on.
        Err(Fault::Broken(_)) => Ok(String::new()),
        Err(Fault::Exhausted(why)) => Err(format!("what it answers for {host} isn't known: {why}")),
    };
    let is_proxy = |answer: &str| matches!(leads(answer), Leads::Proxy(_));
    let others = ask(NOBODY)?;
    let judge = Judge::new(move |host| ask(host).map(|answer| is_proxy(&answer)));
    names(text, list);
    list.entries.retain(|entry| entry.shape.samples().iter().any(|host| judge.lists(host)));
    if is_proxy(&others) {
        list.entries.push(Foreign {
            text: format!("every other host: {others}"),
            shape: Shape::Everything,
            deny: false,
        });
    }
    // A program that names nobody and answers nothing is none.
    if !list.entries.is_empty() || !others.is_empty() {
        list.judge = Some(judge);
    }
    Ok(())
}

#[cfg(not(feature = "pac-engine"))]
fn run(text: &str, list: &mut List) -> Result<(), String> {
    if let Some(own) = Own::tables(text) {
        of_own(&own, list);
    } else {
        names(text, list);
    }
    list.remarks.push(
        "its program isn't run, so the names in it count whatever it answers for them; a build with the \
         feature pac-engine runs it"
            .to_owned(),
    );
    Ok(())
}

/// The names in a PAC file, by the function that they are given to.
fn names(text: &str, list: &mut List) {
    let mut rest = text;
    let mut begin = 0;
    while let Some(at) = rest[begin..].find(['"', '\'', '/']).map(|at| begin + at) {
        let quote = match rest.as_bytes()[at] {
            b'"' => '"',
            b'\'' => '\'',
            // What was commented out isn't listed any more.
            _ => {
                let end = match rest.as_bytes().get(at + 1) {
                    Some(b'/') => rest[at..].find('\n'),
                    Some(b'*') => rest[at + 2..].find("*/").map(|end| end + 4),
                    _ => Some(1),
                };
                let Some(end) = end else { break };
                begin = at + end;
                continue;
            }
        };
        let before = &rest[..at];
        let inside = &rest[at + 1..];
        let Some(end) = inside.find([quote, '\n']) else { break };
        let literal = &inside[..end];
        (rest, begin) = (&inside[end + 1..], 0);
        let call = before.rsplit([';', '{', '}', '|', '&', '\n']).next().unwrap_or_default();
        let lower = literal.to_ascii_lowercase();
        let shape = if call.contains("dnsDomainIs") {
            let bare = lower.trim_start_matches('.');
            name(bare).map(|_| Shape::Suffix(lower.clone()))
        } else if lower.contains('*') {
            name(lower.trim_start_matches('*').trim_start_matches('.')).map(|_| Shape::Glob(lower.clone()))
        } else if let Some(bare) = lower.strip_prefix('.') {
            name(bare).map(Shape::Below)
        } else {
            name(&lower).map(Shape::Host)
        };
        // Most texts in a program are no hosts; results and addresses aren't, either.
        if let Some(shape) = shape.filter(|_| literal.parse::<IpAddr>().is_err()) {
            list.entries.push(Foreign { text: literal.to_owned(), shape, deny: false });
        }
    }
}

#[cfg(test)]
#[path = "pac_tests.rs"]
mod tests;
