//! Reads ip-ranges.json, strictly: a file that AWS wouldn't write is refused, with the place where that
//! shows. Fields that AWS may add one day are ignored.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::error::Category;

use super::{Entry, Name, Ranges};

/// The size of the largest file that is read. The file of August 2026 has 2.6 MB.
pub const LARGEST: usize = 32 << 20;

/// How long a name of a service or region may be; `ROUTE53_HEALTHCHECKS_PUBLISHING` has 31 characters.
const LONGEST_NAME: usize = 64;

/// Where the real file is, for messages.
pub const ADDRESS: &str = "https://ip-ranges.amazonaws.com/ip-ranges.json";

/// Reads a whole file.
///
/// # Errors
///
/// What isn't ip-ranges.json, in one line: the line and column where that shows, what stands there, and
/// what it probably is instead.
pub fn read(bytes: &[u8]) -> Result<Ranges, String> {
    if bytes.len() > LARGEST {
        return Err(format!("larger than {} MiB, so it isn't ip-ranges.json", LARGEST >> 20));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Some(what) = something_else(bytes) {
        return Err(format!("line 1, column 1: {what}; expected the file that {ADDRESS} gives"));
    }
    let Object(raw): Object<Raw<'_>> = serde_json::from_slice(bytes).map_err(|error| refuse(&error))?;
    if raw.prefixes.is_empty() && raw.ipv6_prefixes.is_empty() {
        return Err(format!("there is no prefix in it; expected the file that {ADDRESS} gives"));
    }
    let (create_date, created) = (raw.create_date.0, raw.create_date.1);
    let mut names = Names::default();
    let four = raw.prefixes.iter().map(|Object(p)| (IpNet::from(p.ip_prefix.0), &p.service, &p.region));
    let six = raw.ipv6_prefixes.iter().map(|Object(p)| (IpNet::from(p.ipv6_prefix.0), &p.service, &p.region));
    let entries = four.chain(six).map(|(net, service, region)| {
        Some(Entry { net, service: names.index(&service.0)?, region: names.index(&region.0)? })
    });
    let entries: Option<Vec<Entry>> = entries.collect();
    let entries =
        entries.ok_or("it names more than 65,536 services and regions, so it isn't ip-ranges.json")?;
    let names = names.all.into_iter().map(Box::from).collect();
    Ok(Ranges { create_date, created, sync_token: raw.sync_token.0, entries, names })
}

/// What a file is whose first bytes show that it is no JSON.
fn something_else(bytes: &[u8]) -> Option<String> {
    let text = bytes.trim_ascii_start();
    match text {
        [] => Some("the file is empty".to_owned()),
        [0x1f, 0x8b, ..] => Some("the file is compressed (gzip); unpack it".to_owned()),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("the file is UTF-16; save it as UTF-8".to_owned()),
        [b'<', ..] => Some(match title(text) {
            Some(title) => {
                format!("this is a web page, {title:?}, as a proxy or portal gives it in place of a file")
            }
            None => "this is a web page or XML, as a proxy or portal gives it in place of a file".to_owned(),
        }),
        _ => None,
    }
}

/// The title of a page, fit for a terminal.
fn title(page: &[u8]) -> Option<String> {
    let page = String::from_utf8_lossy(&page[..page.len().min(16 << 10)]);
    let lower = page.to_ascii_lowercase();
    let from = lower.find("<title")?;
    let from = from + lower[from..].find('>')? + 1;
    let to = from + lower[from..].find("</title")?;
    let clean = page[from..to].chars().map(|c| if c.is_control() { ' ' } else { c });
    let words: Vec<String> =
        clean.take(200).collect::<String>().split_whitespace().map(str::to_owned).collect();
    let title: String = words.join(" ").chars().take(80).collect();
    (!title.is_empty()).then_some(title)
}

fn refuse(error: &serde_json::Error) -> String {
    let (line, column) = (error.line().max(1), error.column().max(1));
    let text = error.to_string();
    let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why);
    // The parser quotes the file, which a terminal will show.
    let why: String = why.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect();
    match error.classify() {
        Category::Eof => format!(
            "line {line}, column {column}: the file ends in the middle, as after a download that was cut short; fetch it again from {ADDRESS}"
        ),
        _ => format!("line {line}, column {column}: {why}; expected the file that {ADDRESS} gives"),
    }
}

#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(rename = "syncToken")]
    sync_token: Token,
    #[serde(rename = "createDate")]
    create_date: Moment,
    #[serde(borrow)]
    prefixes: Vec<Object<RawIpv4<'a>>>,
    #[serde(borrow)]
    ipv6_prefixes: Vec<Object<RawIpv6<'a>>>,
}

// `network_border_group` came in 2020; Local Zones and Wavelength Zones belong to their Region's list,
// so nothing here depends on it.
#[derive(Deserialize)]
struct RawIpv4<'a> {
    ip_prefix: Prefix<Ipv4Net>,
    #[serde(borrow)]
    region: Word<'a>,
    #[serde(borrow)]
    service: Word<'a>,
}

#[derive(Deserialize)]
struct RawIpv6<'a> {
    ipv6_prefix: Prefix<Ipv6Net>,
    #[serde(borrow)]
    region: Word<'a>,
    #[serde(borrow)]
    service: Word<'a>,
}

/// An object. By itself serde also takes an array of the values in their order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        from.deserialize_map(Fields(PhantomData))
    }
}

/// A string that one parser takes; errors then carry the place of the string.
struct Parsed<F>(F, &'static str);

impl<'de, T, F: FnOnce(&str) -> Result<T, String>> Visitor<'de> for Parsed<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.1)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        let expects = self.1;
        (self.0)(text).map_err(|why| {
            let shown: String = text.chars().take(LONGEST_NAME).collect();
            let why = if why.is_empty() { why } else { format!("{why}, ") };
            E::custom(format_args!("{shown:?}: {why}expected {expects}"))
        })
    }
}

struct Prefix<N>(N);

impl<'de> Deserialize<'de> for Prefix<Ipv4Net> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let parse = |text: &str| {
            let net: Ipv4Net = text.parse().map_err(|_| String::new())?;
            // Rules for firewalls are made of it: a damaged file must not open more than AWS could own.
            if net.prefix_len() < 8 {
                return Err("wider than any network of AWS's".to_owned());
            }
            if net.trunc() == net { Ok(Self(net)) } else { Err(format!("the network is {}", net.trunc())) }
        };
        from.deserialize_str(Parsed(parse, "an IPv4 network such as \"15.193.0.0/19\""))
    }
}

impl<'de> Deserialize<'de> for Prefix<Ipv6Net> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let parse = |text: &str| {
            let net: Ipv6Net = text.parse().map_err(|_| String::new())?;
            if net.prefix_len() < 16 {
                return Err("wider than any network of AWS's".to_owned());
            }
            if net.trunc() == net { Ok(Self(net)) } else { Err(format!("the network is {}", net.trunc())) }
        };
        from.deserialize_str(Parsed(parse, "an IPv6 network such as \"2600:f0f2:7100::/40\""))
    }
}

/// A service or a region.
struct Word<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Word<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Name;

        fn judge<E: de::Error>(text: &str) -> Result<(), E> {
            let fits = (1..=LONGEST_NAME).contains(&text.len());
            if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Ok(());
            }
            let shown: String = text.chars().take(LONGEST_NAME).collect();
            Err(E::custom(format_args!(
                "{shown:?}: expected a name of letters, digits, hyphens and underscores"
            )))
        }

        impl<'de> Visitor<'de> for Name {
            type Value = Word<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a service or region")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Word<'de>, E> {
                judge(text).map(|()| Word(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word<'de>, E> {
                judge(text).map(|()| Word(Cow::Owned(text.to_owned())))
            }
        }

        from.deserialize_str(Name)
    }
}

struct Token(u64);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let parse = |text: &str| match text.parse() {
            // A number in Rust may have a sign.
            Ok(token) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Self(token)),
            _ => Err(String::new()),
        };
        from.deserialize_str(Parsed(parse, "a syncToken of digits"))
    }
}

struct Moment(String, jiff::Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let parse = |text: &str| {
            let form = "0000-00-00-00-00-00";
            let like = |(b, f): (u8, u8)| if f == b'0' { b.is_ascii_digit() } else { b == f };
            if text.len() != form.len() || !text.bytes().zip(form.bytes()).all(like) {
                return Err(String::new());
            }
            let moment = DateTime::strptime("%Y-%m-%d-%H-%M-%S", text).ok();
            let moment = moment.and_then(|moment| TimeZone::UTC.to_timestamp(moment).ok());
            moment.map(|moment| Self(text.to_owned(), moment)).ok_or_else(String::new)
        };
        from.deserialize_str(Parsed(parse, "a createDate such as \"2026-08-22-15-17-05\""))
    }
}

/// Each name once.
#[derive(Default)]
struct Names<'a> {
    all: Vec<&'a str>,
    known: HashMap<&'a str, Name>,
}

impl<'a> Names<'a> {
    /// None when there are too many.
    fn index(&mut self, text: &'a str) -> Option<Name> {
        if let Some(name) = self.known.get(text) {
            return Some(*name);
        }
        let name = Name(u16::try_from(self.all.len()).ok()?);
        self.all.push(text);
        self.known.insert(text, name);
        Some(name)
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
