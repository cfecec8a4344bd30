//! Asks the running proxy, over its admin listener. What answers there may be anything: an answer is
//! bounded in size and time, and nothing of it reaches the terminal unescaped.

use std::fmt::Display;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Failure;
use super::out::warn;
use crate::config::{self, Config, ConfigErrors, Source, Sources};
use crate::target::{Authority, Host, Target};

/// It is on this machine, or near.
const CONNECT: Duration = Duration::from_secs(5);
/// For the whole answer; a proxy that is busy with 20,000 tunnels takes a second.
const ANSWER: Duration = Duration::from_secs(30);
/// No answer of ours is larger.
const LARGEST: usize = 64 << 20;
const HEAD: usize = 64 << 10;

/// Where the running proxy is asked.
#[derive(clap::Args, Clone)]
pub(super) struct AdminArg {
    /// The admin listener of the running proxy, as in http://127.0.0.1:9128; default: `admin.listen`
    /// of the configuration.
    #[arg(long = "admin", value_name = "URL", value_parser = Place::parse)]
    place: Option<Place>,
}

impl AdminArg {
    /// The proxy that is meant. Warns of a configuration that isn't sound.
    ///
    /// # Errors
    /// When `--set` is wrong, or the configuration leaves the port to the kernel.
    pub(super) fn running(&self, sources: &Sources) -> Result<Running, Failure> {
        let (running, unsound) = self.find(sources)?;
        unsound.iter().for_each(warn);
        Ok(running)
    }

    /// The same, with the warning where the configuration isn't sound: a file that is half saved, broken or
    /// gone is nothing to a proxy that runs, which goes on with what it read before.
    ///
    /// # Errors
    /// As for [`AdminArg::running`].
    pub(super) fn find(&self, sources: &Sources) -> Result<(Running, Option<String>), Failure> {
        if let Some(place) = &self.place {
            return Ok((Running { place: place.clone() }, None));
        }
        let errors = match config::load(sources) {
            Ok(loaded) => return Ok((self.running_by(&loaded.config)?, None)),
            Err(errors) => errors,
        };
        // Whoever typed these flags is there to correct them.
        if errors.problems.iter().all(|problem| problem.source == Source::Set) {
            return Err(Failure::Usage(errors.to_string()));
        }
        let running = self.running_at(config::admin_listen(sources))?;
        let warning = unsound(&errors, &running);
        Ok((running, Some(warning)))
    }

    /// The same, where the configuration is known.
    ///
    /// # Errors
    /// When it leaves the port to the kernel.
    pub(super) fn running_by(&self, config: &Config) -> Result<Running, Failure> {
        self.running_at(config.admin.listen)
    }

    /// The same, where only the address is known.
    ///
    /// # Errors
    /// When its port is left to the kernel.
    pub(super) fn running_at(&self, listen: SocketAddr) -> Result<Running, Failure> {
        if let Some(place) = &self.place {
            return Ok(Running { place: place.clone() });
        }
        if listen.port() == 0 {
            let why = "admin.listen leaves the port to the kernel; name the address with --admin URL";
            return Err(Failure::Usage(why.to_owned()));
        }
        let address = match listen.ip() {
            IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            address => address,
        };
        Ok(Running { place: Place { host: address.to_string(), port: listen.port() } })
    }

    /// Whether the command line names one.
    pub(super) fn is_given(&self) -> bool {
        self.place.is_some()
    }
}

/// What to know, in one line, where a proxy is asked by a configuration that isn't sound.
fn unsound(errors: &ConfigErrors, running: &Running) -> String {
    let first = errors.problems.first().map(ToString::to_string).unwrap_or_default();
    let more = match errors.problems.len() {
        0 | 1 => String::new(),
        all => format!(" (and {} more)", all - 1),
    };
    let rest = format!("the running proxy goes on with what it had, and is asked at {}", running.url());
    format!("the configuration isn't sound: {}{more}; {rest}", clean(&first))
}

/// Host and port of an admin listener.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// A name, or an address without brackets.
    host: String,
    port: u16,
}

impl Place {
    /// # Errors
    /// With what would be valid.
    fn parse(text: &str) -> Result<Self, String> {
        const VALID: &str = "expected http://HOST:PORT, such as http://127.0.0.1:9128";
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(format!("the admin listener speaks no TLS; {VALID}"));
            }
            Some(_) => return Err(VALID.to_owned()),
            None => text,
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let target = Target::parse_authority(authority.as_bytes());
        let Target { host, port } = target.map_err(|error| format!("{error}; {VALID}"))?;
        let host = match host {
            Host::Name(name) => name.to_string(),
            Host::Ip(address) => address.to_string(),
        };
        Ok(Self { host, port })
    }
}

/// A proxy that should be running there.
pub(super) struct Running {
    place: Place,
}

impl Running {
    /// Its address, as a URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", Authority(&self.place.host, self.place.port))
    }

    /// What it answers under a path, as read.
    ///
    /// # Errors
    /// With the URL, when nobody answers there, or not what ccpgate would.
    pub(super) fn ask<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let read = |bytes: Vec<u8>| {
            serde_json::from_slice(&bytes).map_err(|error| {
                let what = if error.is_data() { "JSON of another kind" } else { "no JSON" };
                format!(
                    "answers {what}, which isn't ccpgate's; is it the admin listener, and of this version?"
                )
            })
        };
        self.fetch(path).and_then(read).map_err(|why| self.failed(path, why))
    }

    /// Whether it takes new connections.
    ///
    /// # Errors
    /// With the URL, when nobody answers there, or not what ccpgate would.
    pub(super) fn is_ready(&self) -> Result<bool, Failure> {
        const PATH: &str = "/readyz";
        match self.send(Method::GET, PATH) {
            Ok((StatusCode::OK, _)) => Ok(true),
            Ok((StatusCode::SERVICE_UNAVAILABLE, _)) => Ok(false),
            Ok((status, body)) => Err(self.failed(PATH, unlike(status, &body))),
            Err(why) => Err(self.failed(PATH, why)),
        }
    }

    /// The bytes that it answers under a path.
    ///
    /// # Errors
    /// In words, without the URL.
    pub(super) fn fetch(&self, path: &str) -> Result<Vec<u8>, String> {
        let (status, body) = self.send(Method::GET, path)?;
        if status.is_success() { Ok(body.into()) } else { Err(unlike(status, &body)) }
    }

    /// What it answers to an order, as read, whether it obeyed or not.
    ///
    /// # Errors
    /// With the URL, when nobody answers there, or not what ccpgate would.
    pub(super) fn order<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let sent = self.send(Method::POST, path);
        let read = |(status, body): (StatusCode, Bytes)| {
            serde_json::from_slice(&body).map_err(|_| unlike(status, &body))
        };
        sent.and_then(read).map_err(|why| self.failed(path, why))
    }

    fn send(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("can't be asked: {error}"))?;
        let fetched =
            runtime.block_on(async { within(ANSWER, "answer", self.exchange(method, path)).await? });
        // A name server that doesn't answer holds up nobody any more.
        runtime.shutdown_background();
        fetched
    }

    fn failed(&self, path: &str, why: impl Display) -> Failure {
        let path = path.split('?').next().unwrap_or(path);
        Failure::Usage(format!("{}{path}: {}", self.url(), clean(&why.to_string())))
    }

    async fn exchange(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), String> {
        let Place { host, port } = &self.place;
        let connect = async {
            match host.parse::<IpAddr>() {
                Ok(address) => TcpStream::connect(SocketAddr::new(address, *port)).await,
                Err(_) => TcpStream::connect((host.as_str(), *port)).await,
            }
        };
        let stream = within(CONNECT, "connection", connect).await?.map_err(|error| {
            format!(
                "nobody answers: {error}; is `ccpgate serve` running there? --admin URL names another address"
            )
        })?;
        let lost = |error: &dyn Display| format!("the answer broke off: {error}");
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| lost(&error))?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, Authority(host, *port).to_string())
            .header(USER_AGENT, concat!("ccpgate/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| lost(&error))?;
        connection.abort();
        Ok((status, body.to_bytes()))
    }
}

/// What is wrong with an answer.
fn unlike(status: StatusCode, body: &[u8]) -> String {
    let said = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    let hint = if status.as_u16() == 404 { "is it ccpgate, and of this version? " } else { "" };
    format!("answers {status}: {hint}{}", said.trim())
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> Result<T, String> {
    timeout(limit, work).await.map_err(|_| format!("no {what} within {} s", limit.as_secs()))
}

/// A text from outside as it may be seen on a terminal: without control characters, and without those
/// that turn the direction of what follows.
pub(super) fn clean(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.replace(|c: char| c.is_control() || turns(c), "?")
}

/// What a value of a query may be in a URL.
pub(super) fn encoded(value: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    value.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_url_is_read_strictly() {
        let place = |host: &str, port| Ok(Place { host: host.to_owned(), port });
        assert_eq!(Place::parse("http://127.0.0.1:9128"), place("127.0.0.1", 9128));
        assert_eq!(Place::parse("HTTP://Proxy1.Corp.example:80/"), place("proxy1.corp.example", 80));
        assert_eq!(Place::parse("[::1]:9128"), place("::1", 9128));
        for wrong in [
            "",
            "http://",
            "127.0.0.1",
            "http://127.0.0.1",
            "https://127.0.0.1:9128",
            "ftp://a:1",
            "http://a:1/api",
            "http://u:p@a:1",
            "http://a:0",
            "http://a:70000",
            "http://a b:1",
        ] {
            let why = Place::parse(wrong).expect_err(wrong);
            assert!(why.contains("http://127.0.0.1:9128"), "{wrong}: {why}");
            assert!(!why.contains("u:p"), "{why}");
        }
    }

    #[test]
    fn a_proxy_is_found_whatever_became_of_its_file() {
        const ELSEWHERE: &str = "http://127.0.0.1:9200";
        const DEFAULT: &str = "http://127.0.0.1:9128";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ccpgate.toml");
        let admin = AdminArg { place: None };
        let sources = |env: &[(&str, &str)], set: &[&str]| Sources {
            file: Some(file.clone()),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            set: set.iter().map(|flag| (*flag).to_owned()).collect(),
        };
        let found = |sources: &Sources| {
            let (running, unsound) = admin.find(sources).unwrap();
            (running.url(), unsound)
        };
        let by_file = sources(&[], &[]);
        let listen = "[admin]\nlisten = \"127.0.0.1:9200\"\n";
        std::fs::write(&file, listen).unwrap();
        assert_eq!(found(&by_file), (ELSEWHERE.to_owned(), None));
        for (text, url) in [
            (format!("{listen}[proxy]\nnaem = 1\nlissten = 2\n"), ELSEWHERE),
            (format!("{listen}[proxy]\nlisten = [\n"), ELSEWHERE),
            (String::new(), DEFAULT),
            ("no TOML at all".to_owned(), DEFAULT),
        ] {
            std::fs::write(&file, &text).unwrap();
            let (at, warning) = found(&by_file);
            let warning = warning.expect("a warning");
            assert_eq!(at, url, "{text}");
            assert!(warning.contains("ccpgate.toml") && warning.contains(url), "{text}: {warning}");
            assert_eq!(warning.lines().count(), 1, "{warning}");
            assert!(warning.contains("(and 1 more)") || !text.contains("naem"), "{warning}");
        }
        // What is stronger than the file counts without it.
        let by_variable = sources(&[("CCPGATE_ADMIN__LISTEN", "127.0.0.1:9200")], &[]);
        let by_flag = sources(&[], &["admin.listen=127.0.0.1:9200"]);
        std::fs::write(&file, "").unwrap();
        for sources in [&by_variable, &by_flag] {
            assert_eq!(found(sources).0, ELSEWHERE);
        }
        std::fs::remove_file(&file).unwrap();
        let (at, warning) = found(&by_file);
        assert!(at == DEFAULT && warning.is_some_and(|warning| warning.contains("no such file")));
        // A flag is no file that somebody is saving.
        std::fs::write(&file, listen).unwrap();
        assert!(admin.find(&sources(&[], &["admin.listen=nowhere"])).is_err());
    }

    #[test]
    fn nothing_that_steers_a_terminal_is_shown() {
        assert_eq!(clean("a\u{1b}[2J\u{9b}b\u{202e}c\r\nä"), "a?[2J?b?c??ä");
        assert_eq!(encoded("2001:db8::1 *&"), "2001%3Adb8%3A%3A1%20%2A%26");
    }
}
