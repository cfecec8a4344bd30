//! What answers at one address of the fault network, from TLS up to a WebSocket.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::net::sockopt::set_socket_linger;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Error, WebSocket as Frames};

use super::file::{End, Http, Site, Tcp, Tls, WebSocket};
use super::hostile;
use crate::support::{PATIENCE, accept};

/// How long a server keeps what it neither answers nor closes.
const HELD: Duration = Duration::from_secs(60);
/// What a box that buffers lets through at once.
const HEAP: Duration = Duration::from_secs(5);
/// A header of a client that isn't an attacker is shorter.
const HEAD: usize = 64 * 1024;

const BLOCK_PAGE: &str = "<html><head><title>Access Denied</title></head><body><h1>Web Page Blocked</h1>\
     <p>Access to the web page you were trying to visit has been blocked in accordance with company \
     policy. Category: Internet Telephony</p></body></html>";

/// Serves one connection as the file says.
pub(super) fn serve(site: &Site, tls: &Arc<ServerConfig>, mut stream: TcpStream) {
    stream.set_read_timeout(Some(HELD)).unwrap();
    // A write meets a client that has gone.
    stream.set_nodelay(true).unwrap();
    if let Some(harm) = site.harm {
        return hostile::serve(harm, tls, stream);
    }
    if site.tcp == Tcp::Reset {
        return reset(&stream);
    }
    match site.tls {
        Tls::Clear => {
            if let Some(request) = Request::read(&mut stream) {
                let _ = stream
                    .write_all(page(site, "200 OK", "text/html", "<p>It works</p>", &request).as_bytes());
            } else {
                let answer =
                    page(site, "400 Bad Request", "text/html", "<h1>Bad Request</h1>", &Request::default());
                let _ = stream.write_all(answer.as_bytes());
            }
        }
        Tls::Garbage => {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            wait_for_the_end(&mut stream);
        }
        Tls::Silent => wait_for_the_end(&mut stream),
        Tls::ShortHello if is_long_hello(&stream) => wait_for_the_end(&mut stream),
        Tls::ShortHelloReset if is_long_hello(&stream) => reset(&stream),
        Tls::Reset => {
            let _ = stream.read(&mut [0; 1]);
            reset(&stream);
        }
        Tls::Closed => {
            let _ = stream.read(&mut [0; 4096]);
        }
        Tls::Alert => {
            let _ = stream.read(&mut [0; 4096]);
            // RFC 8446 section 6: fatal, handshake_failure.
            let _ = stream.write_all(&[21, 3, 3, 0, 2, 2, 40]);
            wait_for_the_end(&mut stream);
        }
        Tls::Good
        | Tls::Intercepted
        | Tls::Untrusted
        | Tls::Expired
        | Tls::NotYetValid
        | Tls::FreshTomorrow
        | Tls::WrongName
        | Tls::ShortHello
        | Tls::ShortHelloReset => {
            let Some(mut tls) = accept(tls, stream) else { return };
            tls.sock.set_read_timeout(Some(site.idle.unwrap_or(HELD))).unwrap();
            speak_http(site, &mut tls);
        }
    }
}

/// Whether a ClientHello takes more than one packet of 1,500 bytes.
fn is_long_hello(stream: &TcpStream) -> bool {
    let mut head = [0; 5];
    while stream.peek(&mut head).is_ok_and(|count| (1..5).contains(&count)) {}
    u16::from_be_bytes([head[3], head[4]]) > 1460
}

fn speak_http(site: &Site, stream: &mut StreamOwned<ServerConnection, TcpStream>) {
    loop {
        let begun = Instant::now();
        let Some(request) = Request::read(stream) else {
            // Cut for its silence, or gone by itself.
            if site.idle.is_some_and(|idle| begun.elapsed() >= idle) {
                match site.idle_end {
                    End::Reset => reset(&stream.sock),
                    End::Silence => {
                        stream.sock.set_read_timeout(Some(HELD)).unwrap();
                        wait_for_the_end(&mut stream.sock);
                    }
                }
            }
            return;
        };
        if request.upgrade.is_some() && site.websocket != WebSocket::NoLogin {
            return speak_websocket(site, stream, &request);
        }
        if site.http == Http::Reset {
            return reset(&stream.sock);
        }
        let _ = stream.write_all(answer(site, &request).as_bytes());
        if stream.flush().is_err() {
            return;
        }
    }
}

/// What comes for a request that isn't a WebSocket's.
fn answer(site: &Site, request: &Request) -> String {
    let html = "text/html";
    match site.http {
        Http::BlockPage => return page(site, "403 Forbidden", html, BLOCK_PAGE, request),
        Http::Portal => {
            let text = "<p>You must sign in to this network: http://portal.hotel.example/</p>";
            return page(site, "511 Network Authentication Required", html, text, request);
        }
        Http::Redirect => {
            let to = "302 Found\r\nLocation: http://portal.hotel.example/login?from=desk";
            return page(site, to, html, "", request);
        }
        Http::Down => return page(site, "503 Service Unavailable", "text/plain", "try later", request),
        Http::Service | Http::Reset => {}
    }
    // As AWS answers somebody who isn't signed in and asks for nothing that is there.
    let host = &request.host;
    if host.ends_with(".my.connect.aws") {
        let to = format!("302 Found\r\nLocation: https://{host}/connect/login");
        page(site, &to, html, "", request)
    } else if host.contains("signin") {
        page(site, "200 OK", html, "<p>Sign in</p>", request)
    } else if host.ends_with(".cloudfront.net") || host.contains(".static.") {
        page(site, "403 Forbidden", "application/xml", "<Error><Code>AccessDenied</Code></Error>", request)
    } else if host.starts_with("participant.") {
        page(site, "404 Not Found", "application/json", "{\"message\":null}", request)
    } else {
        page(site, "403 Forbidden", "application/json", "{\"message\":\"Forbidden\"}", request)
    }
}

fn page(site: &Site, status: &str, kind: &str, body: &str, request: &Request) -> String {
    let (date, length) = (date(site), body.len());
    let body = if request.method == "HEAD" { "" } else { body };
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// By this server's clock.
fn date(site: &Site) -> String {
    let mut now = Timestamp::now();
    now += site.ahead.unwrap_or_default();
    now -= site.behind.unwrap_or_default();
    now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn speak_websocket(site: &Site, stream: &mut StreamOwned<ServerConnection, TcpStream>, request: &Request) {
    match site.websocket {
        WebSocket::Refused => {
            let _ =
                stream.write_all(page(site, "403 Forbidden", "text/html", BLOCK_PAGE, request).as_bytes());
            return;
        }
        WebSocket::Stripped => {
            let _ = stream.write_all(page(site, "200 OK", "text/html", "<p>Hello</p>", request).as_bytes());
            return;
        }
        WebSocket::Reset => return reset(&stream.sock),
        WebSocket::Hung => return wait_for_the_end(stream),
        WebSocket::Slow => std::thread::sleep(Duration::from_millis(1500)),
        WebSocket::NoLogin | WebSocket::Echo | WebSocket::Cut | WebSocket::Cut10 | WebSocket::Buffered => {}
    }
    let accept = derive_accept_key(request.upgrade.as_deref().unwrap_or_default().as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nDate: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n",
        date(site)
    );
    if stream.write_all(head.as_bytes()).and_then(|()| stream.flush()).is_err() {
        return;
    }
    let opened = Instant::now();
    let life = Duration::from_secs(match site.websocket {
        WebSocket::Cut => 2,
        WebSocket::Cut10 => 10,
        _ => HELD.as_secs(),
    });
    let buffered = site.websocket == WebSocket::Buffered;
    let socket = stream.sock.try_clone().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut frames = Frames::from_raw_socket(stream, Role::Server, None);
    while opened.elapsed() < life {
        if buffered {
            // Meanwhile everything piles up, pings included.
            std::thread::sleep(HEAP);
        }
        loop {
            match frames.read() {
                Ok(message) if message.is_text() || message.is_binary() => {
                    if frames.send(message).is_err() {
                        return;
                    }
                }
                Ok(message) if message.is_close() => return,
                Ok(_) => {}
                Err(Error::Io(e)) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(_) => return,
            }
            if opened.elapsed() >= life {
                break;
            }
        }
    }
    reset(&socket);
}

/// The last handle's close sends RST.
fn reset(stream: &TcpStream) {
    set_socket_linger(stream, Some(Duration::ZERO)).unwrap();
}

pub(super) fn wait_for_the_end(stream: &mut impl Read) {
    let (until, mut sink) = (Instant::now() + HELD, [0; 4096]);
    while Instant::now() < until && matches!(stream.read(&mut sink), Ok(1..)) {}
}

/// The head of a request.
#[derive(Default)]
pub(super) struct Request {
    method: String,
    host: String,
    /// The key of a WebSocket's upgrade.
    pub(super) upgrade: Option<String>,
}

impl Request {
    pub(super) fn read(stream: &mut impl Read) -> Option<Self> {
        let (mut head, mut byte) = (Vec::new(), [0; 1]);
        let until = Instant::now() + 4 * PATIENCE;
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > HEAD || Instant::now() > until || !matches!(stream.read(&mut byte), Ok(1)) {
                return None;
            }
            head.push(byte[0]);
            // A ClientHello is no request.
            if head == [22] {
                return None;
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let field = |name: &str| {
            let mut fields = head.lines().filter_map(|line| line.split_once(':'));
            fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
        };
        let host = field("host").unwrap_or_default().to_ascii_lowercase();
        Some(Self {
            method: head.split(' ').next().unwrap_or_default().to_owned(),
            host: host.split(':').next().unwrap_or_default().to_owned(),
            upgrade: field("upgrade").and_then(|_| field("sec-websocket-key")),
        })
    }
}
