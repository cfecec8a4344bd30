//! What must hold for any bytes, one function for each parser. The fuzz targets run these under
//! libFuzzer; `tests/fuzz_seeds.rs` runs them over the seeds and a second of mutations on stable.

use std::io::{Cursor, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use ccpgate::agent::stun::{self, Ask, Request};
use ccpgate::bundle;
use ccpgate::catalogue::Choice;
use ccpgate::config::{Sources, load};
use ccpgate::desk::judge::{Traces, judge};
use ccpgate::desk::plan::{Listed, Plan as DeskPlan};
use ccpgate::desk::report::Report;
use ccpgate::egress::dns::answer::{self, Family, MAX_ADDRESSES, Question, Said};
use ccpgate::explain::agent_log;
use ccpgate::export::audit::Audit;
use ccpgate::export::foreign;
use ccpgate::pac;
use ccpgate::plan::Plan;
use ccpgate::policy::{Category, Decision, Pattern, Policy, Rule};
use ccpgate::proxy::head::{self, Head};
use ccpgate::proxy::proxy_protocol::{self, Header};
use ccpgate::ranges::select::{Selection, Wanted};
use ccpgate::ranges::{Table, diff, read};
use ccpgate::target::{Host, Target};
use ccpgate::tls::{keys, pem};
use ccpgate::tunnel::hello::{self, Check, Verdict};
use ipnet::IpNet;

/// Panics when something does not hold.
pub(crate) type Entry = fn(&[u8]);

/// Name and function of every entry; the name is that of its folder of seeds as well.
pub(crate) const ALL: &[(&str, Entry)] = &[
    ("client_hello", client_hello),
    ("client_offers", client_offers),
    ("request_head", request_head),
    ("target", target),
    ("config", config),
    ("pac", pac),
    ("ticket_key", ticket_key),
    ("pem", pem),
    ("dns_answer", dns_answer),
    ("agent_log", agent_log),
    ("stun_answer", stun_answer),
    ("pac_file", pac_file),
    ("ip_ranges", ip_ranges),
    ("bundle", bundle),
    ("foreign_list", foreign_list),
    ("proxy_header", proxy_header),
    ("desk_report", desk_report),
];

/// The guard names the host that rustls, in the place of the server behind the tunnel, would see,
/// or refuses; and it doesn't matter how the bytes were cut into segments.
pub(crate) fn client_hello(data: &[u8]) {
    // No hello can name a host of that length.
    let nobody = Host::Name("nobody.".repeat(10_000).into());
    let at_once = |bytes: &[u8], host: &Host| hello::Judge::default().judge(bytes, Check::Sni, host);
    let ours = at_once(data, &nobody);
    assert_ne!(ours, Verdict::Pass);
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = Cursor::new(data);
    let theirs = loop {
        let read = acceptor.read_tls(&mut rest).expect("reads from memory");
        match acceptor.accept() {
            Ok(Some(accepted)) => break Some(accepted.client_hello().server_name().map(str::to_owned)),
            Ok(None) if read > 0 => {}
            Ok(None) | Err(_) => break None,
        }
    };
    let folded = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    match (&ours, theirs) {
        (Verdict::NotTls(_) | Verdict::SniMismatch(None), _) | (_, None) => {}
        (Verdict::SniMismatch(Some(ours)), Some(Some(theirs))) => assert_eq!(folded(ours), folded(&theirs)),
        (ours, theirs) => panic!("ours {ours:?}, rustls {theirs:?}"),
    }
    if let Verdict::SniMismatch(Some(name)) = &ours
        && let Ok(host @ Host::Name(_)) = Host::parse(name.as_bytes())
    {
        assert_eq!(at_once(data, &host), Verdict::Pass);
    }
    // In pieces, each looked at once, it is judged as at once.
    let step = 1 + data.len() / 64;
    let mut pieces = hello::Judge::default();
    let cut = (0..data.len())
        .step_by(step)
        .map(|cut| {
            let verdict = pieces.judge(&data[..cut], Check::Sni, &nobody);
            assert_eq!(verdict, at_once(&data[..cut], &nobody));
            verdict
        })
        .find(|verdict| *verdict != Verdict::Incomplete);
    if let Some(cut) = cut {
        assert_eq!(std::mem::discriminant(&cut), std::mem::discriminant(&ours));
    }
}

/// What a hello to this proxy offers is what rustls, which then shakes hands, reads of it; and it doesn't matter
/// how the bytes were cut into segments.
pub(crate) fn client_offers(data: &[u8]) {
    let at_once = |bytes: &[u8]| hello::Judge::default().offers(bytes);
    let ours = at_once(data);
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = Cursor::new(data);
    while acceptor.read_tls(&mut rest).expect("reads from memory") > 0 {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let theirs = accepted.client_hello();
                if let Ok(Some(ours)) = &ours {
                    let suites: Vec<u16> =
                        theirs.cipher_suites().iter().map(|suite| (*suite).into()).collect();
                    assert_eq!(ours.suites, suites);
                    let protocols = theirs.alpn().into_iter().flatten().map(<[u8]>::to_vec);
                    assert_eq!(ours.protocols, protocols.collect::<Vec<_>>());
                }
                break;
            }
            Ok(None) => {}
            Err(_) => break,
        }
    }
    // In pieces, each looked at once, it offers the same as at once.
    let step = 1 + data.len() / 64;
    let mut pieces = hello::Judge::default();
    let cut = (0..=data.len())
        .step_by(step)
        .map(|cut| {
            let offers = pieces.offers(&data[..cut]);
            assert_eq!(offers, at_once(&data[..cut]));
            offers
        })
        .find(|offers| !matches!(offers, Ok(None)));
    if let Some(cut) = cut {
        assert_eq!(cut.is_ok(), ours.is_ok());
    }
}

/// A request has a head of bounded length, each line of it ended by CRLF, and nothing behind it is
/// lost.
pub(crate) fn request_head(data: &[u8]) {
    const LIMIT: usize = 4096;
    match head::parse(data, LIMIT) {
        Some(Head::Request(request, rest)) => {
            let (head, behind) = data.split_at(data.len() - rest.len());
            assert_eq!(behind, rest);
            assert!(head.len() <= LIMIT && head.ends_with(b"\r\n\r\n"));
            assert!((1..head.len()).all(|i| head[i] != b'\n' || head[i - 1] == b'\r') && head[0] != b'\n');
            assert!(!head.contains(&0) && !request.target.is_empty());
            match head::parse(head, LIMIT) {
                Some(Head::Request(again, nothing)) => assert!(again == request && nothing.is_empty()),
                other => panic!("without what follows: {other:?}"),
            }
            // No prefix of it is another request.
            let shorter = head.len() - 1;
            assert!(head::parse(&head[..shorter], LIMIT).is_none());
            target(request.target.as_bytes());
        }
        Some(Head::Bad(_)) => {}
        None => assert!(data.len() <= LIMIT),
        Some(Head::Ended { .. }) => panic!("nobody said so"),
    }
}

/// What the strict parser takes, `http::Uri` reads the same way, and the normal form is a fixed point.
pub(crate) fn target(data: &[u8]) {
    if let Ok(target) = Target::parse_authority(data) {
        let uri = http::Uri::try_from(data).expect("an authority");
        assert_eq!(uri.port_u16(), Some(target.port));
        let host = uri.host().expect("a host").to_ascii_lowercase();
        let host = host.strip_suffix('.').unwrap_or(&host);
        match &target.host {
            Host::Name(name) => assert_eq!(&**name, host),
            Host::Ip(IpAddr::V4(address)) => assert_eq!(address.to_string(), host),
            Host::Ip(address) => {
                assert_eq!(host.trim_matches(['[', ']']).parse::<IpAddr>().as_ref(), Ok(address));
            }
        }
        let normal = target.to_string();
        assert_eq!(Target::parse_authority(normal.as_bytes()).as_ref(), Ok(&target));
        assert_eq!(Target::parse_human(&normal), Ok(target));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(target) = Target::parse_human(text)
    {
        assert_eq!(Target::parse_human(&target.to_string()), Ok(target));
    }
}

/// A configuration is refused with problems that have words, or shows as TOML that reads the same.
pub(crate) fn config(data: &[u8]) {
    let Some(file) = file_with(data) else { return };
    match load(&Sources { file: Some(file.path().to_owned()), ..Sources::default() }) {
        Err(errors) => assert!(!errors.problems.is_empty() && !errors.to_string().is_empty()),
        Ok(loaded) => {
            let Some(shown) = file_with(loaded.to_toml().as_bytes()) else { return };
            let again = load(&Sources { file: Some(shown.path().to_owned()), ..Sources::default() });
            // Paths count from the file that names them, and both are in one folder.
            assert_eq!(again.map(|again| again.config).ok().as_ref(), Some(&loaded.config));
            let _ = Plan::new(&loaded);
        }
    }
}

/// Whatever lines are patterns: the PAC is ASCII, closes what it opens, and the policy behind it
/// allows what a pattern without a star names.
pub(crate) fn pac(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let patterns: Vec<Pattern> = text.lines().take(50).filter_map(|line| Pattern::parse(line).ok()).collect();
    let rules = patterns.iter().map(|pattern| Rule::added(pattern.clone(), vec![443], Category::Extra));
    let policy = Policy::new(rules.collect(), Vec::new());
    let proxy = text.lines().last().unwrap_or_default().to_owned();
    // Every other pattern is direct as well, and two proxies of one row make lanes.
    let direct = patterns.iter().step_by(2).cloned().map(pac::Direct::Pattern).collect();
    let listed = vec![vec![proxy.clone(), proxy]];
    let answers = pac::Answers { listed, otherwise: "DIRECT".to_owned(), direct };
    let script = pac::render(&policy, &answers);
    assert!(script.is_ascii());
    assert!(!script.bytes().any(|b| b.is_ascii_control() && b != b'\n'), "a control character");
    for host in patterns.iter().filter_map(Pattern::as_host) {
        let target = Target { host: host.clone(), port: 443 };
        assert!(matches!(policy.decide(&target), Decision::Allowed(..)), "{target}");
    }
}

/// A key file is 32 bytes or 64 hexadecimal digits, or it is refused.
pub(crate) fn ticket_key(data: &[u8]) {
    let Some(file) = file_with(data) else { return };
    let private = std::fs::Permissions::from_mode(0o600);
    if file.as_file().set_permissions(private).is_err() {
        return;
    }
    match keys::TicketKeys::load(&[file.path()]) {
        Ok(Some(keys)) => {
            let digits = data.trim_ascii_end();
            let hex = digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit);
            assert!(data.len() == 32 || hex, "{data:?}");
            assert_eq!(keys.fingerprints().len(), 1);
        }
        Ok(None) => panic!("a file was named"),
        Err(errors) => assert_eq!(errors.len(), 1),
    }
}

/// Nothing but sections of PEM is found in a text.
pub(crate) fn pem(data: &[u8]) {
    let begins = data.windows(11).any(|w| w == b"-----BEGIN ");
    let certificates = pem::certificates(data);
    assert!(certificates.as_ref().is_ok_and(|found| !found.is_empty()) || certificates.is_err());
    assert!(begins || certificates.is_err() && pem::private_key(data).is_err());
}

/// An answer to a question that was asked has its id and repeats it, or says why not; its addresses
/// are few, different, and of the family that was asked for.
pub(crate) fn dns_answer(data: &[u8]) {
    let id = data.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    for family in [Family::V4, Family::V6] {
        let question = Question::new("name.example", family).expect("a name");
        let Some(reply) = answer::read(data, &question, &[id]) else { continue };
        assert_eq!(reply.id, id);
        assert!(answer::read(data, &question, &[!id]).is_none(), "the answer to another question");
        let asked = &question.packet(id, false)[12..];
        let repeated = data[12..].get(..asked.len()).is_some_and(|q| q.eq_ignore_ascii_case(asked));
        match reply.said {
            Said::Failed(_) => {}
            _ if !repeated => panic!("an answer to no question"),
            Said::Addresses(addresses, ttl) => {
                assert!((1..=MAX_ADDRESSES).contains(&addresses.len()) && ttl <= i32::MAX as u32);
                assert!(addresses.iter().all(|a| a.is_ipv4() == (family == Family::V4)));
                assert!(addresses.iter().enumerate().all(|(i, a)| !addresses[..i].contains(a)));
            }
            Said::Alias(to, _) => assert_ne!(to, question.name),
            Said::Nothing { ttl, .. } => assert!(ttl.is_none_or(|ttl| ttl <= i32::MAX as u32)),
        }
    }
}

/// A log is refused with line and column, or gives a report whose failures are lines of it, in order,
/// without a control character.
pub(crate) fn agent_log(data: &[u8]) {
    match agent_log::read::read(data) {
        Err(why) => assert!(why.starts_with("line ") && why.contains("column "), "{why}"),
        Ok(entries) => {
            let read = entries.len();
            let report = agent_log::report(entries, None);
            assert_eq!(report.entries, read);
            assert!(report.errors.iter().all(|e| e.lines > 0 && !e.text.chars().any(char::is_control)));
            let lines: usize = report.errors.iter().map(|error| error.lines).sum();
            assert!(lines <= read);
            assert!(!report.to_string().is_empty() && serde_json::to_string(&report).is_ok());
        }
    }
}

/// A desk's report is refused in one clean line, or judged by what it says of the plan alone: nothing else
/// of it but the browser's name, on one line, is ever shown.
pub(crate) fn desk_report(data: &[u8]) {
    let clean = |text: &str| !text.contains(char::is_control) && text.chars().count() <= 200;
    let report = match Report::read(data) {
        Ok(report) => report,
        Err(why) => return assert!(clean(&why), "{why:?}"),
    };
    assert!(clean(&report.browser()));
    let listed = |host: &str, category| Listed { host: host.into(), category };
    let hosts = vec![listed("a.example", Category::Login), listed("b.example", Category::Chat)];
    let media = vec!["t.example".into(), "u.example".into()];
    let plan = DeskPlan { hosts, media, untested: vec![Category::Telecom], left_out: 0 };
    for complete in [false, true] {
        let traces = Traces { hosts: [("a.example".into(), None)].into(), complete, prompt: complete };
        let Some(judged) = judge(&plan, &report, &traces) else { continue };
        assert!(clean(&judged.sentence), "{}", judged.sentence);
        let names = ["a.example", "b.example", "t.example", "u.example"];
        let shown = judged.categories.values().flat_map(|c| c.hosts.iter().map(|one| &*one.host));
        assert!(shown.chain(judged.media.iter().map(|one| &*one.host)).all(|host| names.contains(&host)));
    }
}

/// ip-ranges.json is refused in one clean line, or selecting from it widens nothing: what is in a set is
/// in a prefix of the file, and aggregation keeps the addresses.
pub(crate) fn ip_ranges(data: &[u8]) {
    let ranges = match read::read(data) {
        Err(why) => return assert!(!why.is_empty() && !why.chars().any(char::is_control), "{why:?}"),
        Ok(ranges) => ranges,
    };
    assert!(!ranges.entries.is_empty());
    let all: Table = ranges.entries.iter().map(|entry| entry.net).collect();
    let choice =
        Choice { regions: vec!["us-west-2".to_owned(), "us-gov-west-1".to_owned()], ..Choice::default() };
    let selection = Selection::new(&ranges, &Wanted::new(&choice, false));
    for selected in &selection.sets {
        let table = &selected.table;
        assert!(selected.entries.iter().all(|entry| table.covers(&entry.net)));
        assert!(table.without(&all).is_empty());
        let four = table.ipv4().into_iter().map(IpNet::from);
        let again: Table = four.chain(table.ipv6().into_iter().map(IpNet::from)).collect();
        assert_eq!(&again, table);
    }
    let version = diff::Version { ranges, selection };
    let diff = diff::Diff::new(&version, &version, &[], version.ranges.day()).expect("no newer than itself");
    assert!(diff.added.is_empty() && diff.removed.is_empty());
}

/// An answer is one whole message of bounded length, to the method and with the id that was asked for,
/// with an error's number in its bounds; without a byte of it, or to another id, it is none.
pub(crate) fn stun_answer(data: &[u8]) {
    let id = data.get(4..20).and_then(|id| id.try_into().ok()).map_or(0, u128::from_be_bytes);
    for ask in [Ask::Binding, Ask::Allocate] {
        // Somebody else's comes first: which one is answered matters.
        let requests = [Request::with_id(ask, id ^ 1), Request::with_id(ask, id)];
        let Some((which, answer)) = stun::read(data, &requests) else { continue };
        assert_eq!((which, answer.to), (1, ask));
        assert!(data.len() <= stun::LONGEST && data.len().is_multiple_of(4));
        assert_eq!(data[4..8], 0x2112_a442_u32.to_be_bytes());
        let method = if ask == Ask::Binding { 1 } else { 3 };
        let class = if answer.error.is_some() { 0x110 } else { 0x100 };
        assert_eq!(u16::from_be_bytes([data[0], data[1]]), class | method);
        assert!(answer.error.is_none_or(|code| (300..700).contains(&code)));
        assert_eq!(stun::read(data, &requests[..1]), None, "the answer to another question");
        assert_eq!(stun::read(&data[..data.len() - 1], &requests), None, "a part of it");
        assert!(!answer.to_string().chars().any(char::is_control));
    }
}

/// A foreign list is refused in words, or judged: what it is said to let in by mistake the policy denies,
/// and a list that lets everything through misses nothing.
pub(crate) fn foreign_list(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // Files that it includes are itself.
    let list = match foreign::read(&text, &|_| Ok(text.chars().take(500).collect())) {
        Err(why) => return assert!(!why.is_empty()),
        Ok(list) => list,
    };
    let patterns = ["login.x.example", "rtc*.x.example", "*.y.example"];
    let rules =
        patterns.map(|text| Rule::added(Pattern::parse(text).expect("a pattern"), vec![443], Category::Api));
    let policy = Policy::new(rules.into(), Vec::new());
    let lists = [("list".to_owned(), list)];
    let audit = Audit::new(&policy, &lists);
    assert!(audit.missing.len() <= patterns.len());
    for wider in &audit.wider {
        let target = Target { host: Host::parse(wider.lets_in.as_bytes()).expect("a host"), port: 443 };
        assert!(matches!(policy.decide(&target), Decision::Denied { .. }), "{target}");
    }
    let denies = lists[0].1.entries.iter().any(|entry| entry.deny);
    if !denies && lists[0].1.entries.iter().any(|entry| entry.text == "http_access allow all") {
        assert!(lists[0].1.kind != foreign::Kind::Squid || audit.missing.is_empty());
    }
    assert!(!audit.to_string().is_empty());
}

/// A header is whole at its own length, whatever follows, and not before; what is asked for beyond some
/// bytes is never more than the header has; and what is refused stays refused.
pub(crate) fn proxy_header(data: &[u8]) {
    match proxy_protocol::read(data) {
        Ok(Header::Whole(_, length)) => {
            assert!((1..=proxy_protocol::LONGEST).contains(&length));
            let header = &data[..length];
            assert_eq!(proxy_protocol::read(header), proxy_protocol::read(data));
            for cut in 0..length {
                match proxy_protocol::read(&header[..cut]) {
                    Ok(Header::Wants(more)) => assert!((1..=length - cut).contains(&more)),
                    other => panic!("{other:?} after {cut} of {length} bytes"),
                }
            }
        }
        Ok(Header::Wants(more)) => assert!(data.len() + more <= proxy_protocol::LONGEST),
        Err(fault) => {
            assert!(!fault.to_string().is_empty());
            let more = [data, b"\r\n\0x"].concat();
            assert_eq!(proxy_protocol::read(&more), Err(fault));
        }
    }
}

/// Whatever stands before the functions of our own PAC file: it is refused, or answers for every host, and
/// the same when the ends of its lines have been changed on the way.
pub(crate) fn pac_file(data: &[u8]) {
    let empty = pac::render(&Policy::new(Vec::new(), Vec::new()), &pac::Answers::default());
    let (_, functions) = empty.split_once("var DIRECT_PLAIN = false;\n").expect("the last table");
    let file = format!("{}{functions}", String::from_utf8_lossy(data).replace("\r\n", "\n"));
    let Some(own) = pac::own::Own::recognise(&file) else { return };
    let changed = pac::own::Own::recognise(&file.replace('\n', "\r\n")).expect("the same file");
    for name in ["a.example.com", "shard12-a.example.net", "localhost", "192.0.2.9", "[2001:db8::9]"] {
        let host = Host::parse(name.as_bytes()).expect("a host");
        assert_eq!(own.answer(&host), changed.answer(&host));
    }
}

/// None when the machine has no room for it, which is not the parser's fault.
fn file_with(data: &[u8]) -> Option<tempfile::NamedTempFile> {
    let mut file = tempfile::NamedTempFile::new().ok()?;
    file.write_all(data).ok()?;
    Some(file)
}

/// An archive that somebody sent, packed or not: it is refused in one line, or its parts read back the
/// same and are what their names say.
pub(crate) fn bundle(data: &[u8]) {
    for read in [bundle::read::read(data), bundle::read::entries(data)] {
        match read {
            Ok(read) => {
                assert!(read.parts().any(|part| part == bundle::Part::Manifest));
                for part in read.parts() {
                    assert!(!part.is_json() || read.json(part).is_some(), "{}", part.name());
                }
                assert!(read.strangers.iter().all(|name| !name.contains(['/', '\n', '\0'])));
                let mut known = read;
                known.strangers.clear();
                let again = bundle::read::read(&known.pack(0).expect("what was read can be written"));
                assert_eq!(again.expect("what was written can be read"), known);
            }
            Err(error) => {
                let said = error.to_string();
                assert!(!said.contains(char::is_control), "{said:?}");
            }
        }
    }
}
