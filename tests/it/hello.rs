//! The guard on a tunnel's first bytes (`policy.tls`): a ClientHello that names the CONNECT host
//! passes however it is cut; of anything else not a byte reaches the upstream.

use std::time::Duration;

use crate::support::{
    Proxy, Raw, Upstream, assert_same_bytes, client_hello, client_hello_without_name, eventually, made_hello,
    records, server_names,
};

const TARGET: &str = "good.example:443";

struct Guarded {
    upstream: Upstream,
    proxy: Proxy,
}

impl Guarded {
    fn new(tls: &str) -> Self {
        let upstream = Upstream::recorder();
        let proxy = Proxy::start(&format!(
            "[[allow]]\npattern = \"good.example\"\n[[allow]]\npattern = \"192.0.2.1\"\n[policy]\ntls = \"{tls}\"\n\
             [limits]\nheader_timeout = \"1s\"\n{}",
            upstream.for_targets(&[TARGET, "192.0.2.1:443"])
        ));
        Self { upstream, proxy }
    }

    fn outcome(&self, domain: &str, outcome: &str) -> String {
        format!("ccpgate_tunnels_total{{domain=\"{domain}\",category=\"extra\",outcome=\"{outcome}\"}}")
    }

    /// These bytes reach the upstream as they are.
    #[track_caller]
    fn expect_pass(&self, target: &str, send: impl FnOnce(&mut Raw), expected: &[u8]) {
        let before = self.upstream.received().len();
        let mut client = self.proxy.tunnel(target);
        send(&mut client);
        eventually("the bytes to arrive", || {
            (self.upstream.received().len() >= before + expected.len()).then_some(())
        });
        assert_same_bytes(&self.upstream.received()[before..], expected);
        client.finish();
        client.expect_closed();
    }

    /// The tunnel is closed with this outcome, and nothing went on.
    #[track_caller]
    fn expect_stopped(&self, target: &str, bytes: &[u8], outcome: &str) {
        let series = self.outcome(target.split(':').next().unwrap(), outcome);
        let (before, received) = (self.proxy.metric(&series), self.upstream.received().len());
        let mut client = self.proxy.tunnel(target);
        client.send(bytes);
        client.expect_gone();
        let shown: String = String::from_utf8_lossy(bytes).escape_debug().take(80).collect();
        let metrics = eventually(&format!("the end of the tunnel with {shown}"), || {
            let metrics = self.proxy.metrics();
            (metrics.get("ccpgate_client_connections{listener=\"http\"}") == Some(0.0)).then_some(metrics)
        });
        assert_eq!(metrics.get(&series), Some(before + 1.0), "{series} for {shown}");
        assert_eq!(self.upstream.received().len(), received, "bytes went upstream: {shown}");
    }
}

/// A hello for `host` with another name of the same length in its SNI.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = client_hello(from);
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    bytes
}

#[test]
fn a_hello_that_names_the_target_passes_unchanged() {
    let guarded = Guarded::new("sni");
    let hello = client_hello("good.example");
    guarded.expect_pass(TARGET, |client| client.send(&hello), &hello);
    // Case folds.
    let shouting = renamed("good.example", "GOOD.Example");
    guarded.expect_pass(TARGET, |client| client.send(&shouting), &shouting);
    // What comes with it goes with it.
    let more = [hello.as_slice(), b"\x14\x03\x03\x00\x01\x01"].concat();
    guarded.expect_pass(TARGET, |client| client.send(&more), &more);
    guarded.proxy.metric_eventually(&guarded.outcome("good.example", "ok"), 3.0);
}

#[test]
fn a_hello_in_the_segment_of_the_connect_passes() {
    let guarded = Guarded::new("sni");
    let hello = client_hello("good.example");
    let mut client = guarded.proxy.connect();
    client.send([format!("CONNECT {TARGET} HTTP/1.1\r\n\r\n").as_bytes(), &hello].concat());
    assert_eq!(client.read_answer_to_connect().status, 200);
    eventually("the hello", || (guarded.upstream.received() == hello).then_some(()));
}

#[test]
fn a_hello_cut_anywhere_passes() {
    // One tunnel per cut, many at a time: each waits for its second half.
    let guarded = Guarded::new("sni");
    let hello = client_hello("good.example");
    let cuts: Vec<usize> = (1..hello.len()).collect();
    for cuts in cuts.chunks(100) {
        let mut clients: Vec<(usize, Raw)> =
            cuts.iter().map(|cut| (*cut, guarded.proxy.tunnel(TARGET))).collect();
        for (cut, client) in &mut clients {
            client.send(&hello[..*cut]);
        }
        std::thread::sleep(Duration::from_millis(5));
        for (cut, client) in &mut clients {
            client.send(&hello[*cut..]);
            client.finish();
        }
        for (cut, client) in &mut clients {
            let rest = client.read_to_end().unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            assert!(rest.is_empty());
        }
    }
    let tunnels = hello.len() - 1;
    eventually("all hellos", || (guarded.upstream.received().len() == tunnels * hello.len()).then_some(()));
    guarded.proxy.metric_eventually(&guarded.outcome("good.example", "ok"), tunnels as f64);
}

#[test]
fn a_hello_in_single_bytes_and_in_small_records_passes() {
    let guarded = Guarded::new("sni");
    let hello = client_hello("good.example");
    guarded.expect_pass(TARGET, |client| client.send_bytewise(&hello), &hello);
    for size in [1, 2, 3, 7, 100, 500] {
        let cut = records(&hello, size);
        guarded.expect_pass(TARGET, |client| client.send(&cut), &cut);
    }
}

#[test]
fn another_name_is_sni_mismatch() {
    let guarded = Guarded::new("sni");
    // Domain fronting; names that no client sends; none at all.
    for name in ["evil.example", "www.good.example", "good.example.evil.example"] {
        guarded.expect_stopped(TARGET, &client_hello(name), "sni_mismatch");
    }
    for name in ["good\0example", "good.exampl\0"] {
        guarded.expect_stopped(TARGET, &renamed("good.example", name), "sni_mismatch");
    }
    guarded.expect_stopped(TARGET, &client_hello_without_name(), "sni_mismatch");
    let line = guarded.proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["stage"]), (&"sni_mismatch".into(), &"hello".into()), "{line}");
    assert_eq!((&line["sent"], &line["ended_by"]), (&0.into(), &"proxy".into()), "{line}");
}

#[test]
fn odd_names_in_a_hello() {
    let guarded = Guarded::new("sni");
    let named = |names: &[&[u8]]| made_hello(&[server_names(names)]);
    // One trailing dot folds.
    for names in [&[b"good.example.".as_slice()], &[b"GOOD.EXAMPLE.".as_slice()]] {
        let hello = named(names);
        guarded.expect_pass(TARGET, |client| client.send(&hello), &hello);
    }
    let long = vec![b'a'; 20_000];
    for names in [
        &[b"good.example".as_slice(), b"evil.example"][..],
        &[b"evil.example", b"good.example"],
        &[b"good.example", b"good.example"],
        &[b""],
        &[b"."],
        &[b"good.example.."],
        &[b"good.example\0.evil.example"],
        &[b"192.0.2.1"],
        &[b"*.example"],
        &[&long],
    ] {
        guarded.expect_stopped(TARGET, &named(names), "sni_mismatch");
    }
    for extension in [(0, Vec::new()), (0, vec![0, 0])] {
        guarded.expect_stopped(TARGET, &made_hello(&[extension]), "sni_mismatch");
    }
    // An address is never named, not even by its own digits.
    guarded.expect_stopped("192.0.2.1:443", &named(&[b"192.0.2.1"]), "sni_mismatch");
}

#[test]
fn encrypted_and_padded_hellos() {
    let guarded = Guarded::new("sni");
    // What every browser sends; as long as hellos get, over several records.
    let ech = (0xfe0d, vec![0, 0, 1, 0, 1, 7, 0, 1, 1, 0, 1, 1]);
    let name = server_names(&[b"good.example"]);
    for padding in [0, 1800, 16_000, 40_000] {
        let hello = made_hello(&[ech.clone(), (21, vec![0; padding]), name.clone()]);
        guarded.expect_pass(TARGET, |client| client.send(&hello), &hello);
    }
    let hello = made_hello(&[(21, vec![0; 16_000]), name.clone()]);
    guarded.expect_pass(TARGET, |client| client.send(records(&hello, 100)), &records(&hello, 100));
    // What the outer hello names counts.
    let outer = made_hello(&[ech, server_names(&[b"public.example"])]);
    guarded.expect_stopped(TARGET, &outer, "sni_mismatch");
    // Beyond 64 KiB, records and all, nothing is a hello.
    let small = records(&made_hello(&[(21, vec![0; 40_000]), name]), 2);
    guarded.expect_stopped(TARGET, &small, "not_tls");
}

#[test]
fn a_hello_and_what_came_behind_it_arrive_unchanged_in_any_segments() {
    let guarded = Guarded::new("sni");
    let hello = records(&client_hello("good.example"), 300);
    let behind: Vec<u8> = (0..200_000_u32).map(|i| (i * 7 / 5) as u8).collect();
    let all = [hello.as_slice(), &behind].concat();
    for size in [hello.len() - 1, hello.len(), hello.len() + 1, 333, 70_000, all.len()] {
        guarded.expect_pass(TARGET, |client| all.chunks(size).for_each(|chunk| client.send(chunk)), &all);
    }
}

#[test]
fn a_hello_without_a_name_passes_to_an_allowed_address() {
    let guarded = Guarded::new("sni");
    let hello = client_hello_without_name();
    guarded.expect_pass("192.0.2.1:443", |client| client.send(&hello), &hello);
    guarded.expect_stopped("192.0.2.1:443", &client_hello("good.example"), "sni_mismatch");
}

#[test]
fn what_is_no_client_hello_is_not_tls() {
    let guarded = Guarded::new("sni");
    let hello = client_hello("good.example");
    let mut wrong_length = hello.clone();
    wrong_length[3..5].copy_from_slice(&[0, 10]);
    let mut server_hello = hello.clone();
    server_hello[5] = 2;
    let mut overrun = hello.clone();
    // The session id claims to be longer than the message.
    overrun[43] = 0xff;
    let cut = records(&hello, 200);
    let between = |record: &[u8]| [&cut[..205], record, &cut[205..]].concat();
    let (alert, nothing) = (between(b"\x15\x03\x03\x00\x02\x01\x00"), between(b"\x16\x03\x01\x00\x00"));
    let mut version = hello.clone();
    version[1] = 4;
    // The version within the hello: none that was ever given out, and that of DTLS.
    let within = |version: [u8; 2]| [&hello[..9], &version, &hello[11..]].concat();
    let (later, datagrams) = (within([3, 5]), within([0xfe, 0xfd]));
    let mut too_short = hello.clone();
    too_short[8] = too_short[8].wrapping_sub(1);
    let name = server_names(&[b"good.example"]);
    let two_extensions = made_hello(&[name.clone(), name]);
    let mut records_of_nothing = Vec::new();
    for _ in 0..20_000 {
        records_of_nothing.extend(b"\x16\x03\x01\x00\x00");
    }
    for bytes in [
        b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n".as_slice(),
        b"SSH-2.0-OpenSSH_9.7\r\n",
        b"EHLO good.example\r\n",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
        b"\0\0\0\0",
        // Other records first; an SSLv2 hello, wrong lengths.
        b"\x17\x03\x03\x00\x05hello",
        b"\x15\x03\x03\x00\x02\x01\x00",
        b"\x14\x03\x03\x00\x01\x01",
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",
        b"GET /ws HTTP/1.1\r\nHost: good.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        &alert,
        &nothing,
        &version,
        &later,
        &datagrams,
        &too_short,
        &two_extensions,
        &wrong_length,
        &server_hello,
        &overrun,
        &records_of_nothing,
    ] {
        guarded.expect_stopped(TARGET, bytes, "not_tls");
    }
}

/// The line of such a tunnel says what it was, as far as its first bytes tell, and nothing that isn't so.
#[test]
fn what_speaks_instead_of_tls_is_told() {
    let guarded = Guarded::new("sni");
    let none = "the first bytes are no TLS handshake";
    let after = |what: &str| format!("{none}: this is {what}");
    for (bytes, detail) in [
        (&b"SSH-2.0-OpenSSH_9.7\r\n"[..], after("SSH")),
        (b"EHLO desk.example\r\n", after("SMTP")),
        (b"USER anonymous\r\n", after("FTP or POP3")),
        (b"a001 CAPABILITY\r\n", after("IMAP")),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", after("HTTP without TLS")),
        (b"REGISTER sip:good.example SIP/2.0\r\n", after("SIP")),
        (b"220 mail.example ESMTP\r\n", none.to_owned()),
        (b"* OK IMAP4rev1 ready\r\n", none.to_owned()),
        (b"\x4a\0\0\0\x0a8.0.36\0", none.to_owned()),
        (b"", "the client sent nothing: it may wait for a greeting, as of an SMTP, FTP, IMAP or database server".into()),
    ] {
        let mut client = guarded.proxy.tunnel(TARGET);
        client.send(bytes);
        client.expect_gone();
        let line = guarded.proxy.log_line("its end", |line| {
            line["event"] == "tunnel" && line["client"] == client.local().to_string()
        });
        assert_eq!((&line["outcome"], &line["detail"]), (&"not_tls".into(), &detail.into()), "{line}");
    }
}

#[test]
fn silence_and_half_a_hello_are_not_tls_after_header_timeout() {
    let guarded = Guarded::new("sni");
    let hello = client_hello("good.example");
    guarded.expect_stopped(TARGET, b"", "not_tls");
    guarded.expect_stopped(TARGET, &hello[..hello.len() / 2], "not_tls");
    // A tunnel closed before its first byte ended well; one that is closed within its hello didn't.
    let mut client = guarded.proxy.tunnel(TARGET);
    client.finish();
    client.expect_gone();
    guarded.proxy.metric_eventually(&guarded.outcome("good.example", "ok"), 1.0);
    let before = guarded.proxy.metric(&guarded.outcome("good.example", "not_tls"));
    let mut client = guarded.proxy.tunnel(TARGET);
    client.send(&hello[..100]);
    client.finish();
    client.expect_gone();
    guarded.proxy.metric_eventually(&guarded.outcome("good.example", "not_tls"), before + 1.0);
    assert!(guarded.upstream.received().is_empty());
}

#[test]
fn a_server_that_speaks_first_is_not_heard_before_the_hello() {
    let upstream = Upstream::finishes_first(b"220 smtp.example ESMTP\r\n".to_vec());
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[policy]\ntls = \"sni\"\n[limits]\nheader_timeout = \"500ms\"\n{}",
        upstream.for_targets(&[TARGET])
    ));
    let mut client = proxy.tunnel(TARGET);
    client.expect_gone();
    let line = proxy.access_line("tunnel", TARGET);
    assert_eq!((&line["outcome"], &line["received"]), (&"not_tls".into(), &0.into()), "{line}");
    assert!(upstream.received().is_empty());
}

#[test]
fn a_hello_that_drips_is_cut_at_header_timeout_too() {
    let guarded = Guarded::new("sni");
    let hello = client_hello("good.example");
    let mut client = guarded.proxy.tunnel(TARGET);
    for byte in &hello[..20] {
        client.send([*byte]);
        std::thread::sleep(Duration::from_millis(100));
    }
    client.expect_gone();
    guarded.proxy.metric_eventually(&guarded.outcome("good.example", "not_tls"), 1.0);
}

#[test]
fn tls_takes_any_hello_and_off_takes_anything() {
    let guarded = Guarded::new("tls");
    let hello = client_hello("evil.example");
    guarded.expect_pass(TARGET, |client| client.send(&hello), &hello);
    guarded.expect_stopped(TARGET, b"GET / HTTP/1.1\r\n\r\n", "not_tls");

    let guarded = Guarded::new("off");
    guarded.expect_pass(TARGET, |client| client.send("GET / HTTP/1.1\r\n\r\n"), b"GET / HTTP/1.1\r\n\r\n");
}

#[test]
fn report_mode_counts_and_lets_through() {
    let upstream = Upstream::recorder();
    let proxy = Proxy::start(&format!(
        "[[allow]]\npattern = \"good.example\"\n[policy]\ntls = \"sni\"\nmode = \"report\"\n{}",
        upstream.for_targets(&[TARGET])
    ));
    for (bytes, reason) in
        [(b"EHLO x\r\n".to_vec(), "not_tls"), (client_hello("evil.example"), "sni_mismatch")]
    {
        let before = upstream.received().len();
        let mut client = proxy.tunnel(TARGET);
        client.send(&bytes);
        eventually("the bytes", || (upstream.received().len() == before + bytes.len()).then_some(()));
        client.finish();
        client.expect_closed();
        proxy.metric_eventually(&format!("ccpgate_reported_total{{reason=\"{reason}\"}}"), 1.0);
        let line = proxy.log_line(reason, |line| line["would_deny"] == reason);
        assert_eq!((&line["domain"], &line["category"]), (&"none".into(), &"none".into()), "{line}");
        assert_eq!(line["outcome"], "ok", "{line}");
    }
}
