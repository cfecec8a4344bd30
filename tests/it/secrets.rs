//! What clients put into URLs besides the host (user information, paths, queries) is in no log and
//! in no answer, whatever the request is refused for; nor is the query of a URL of the configuration.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::support::{Frames, Proxy, Raw, Secured, Upstream, ccpgate, eventually};

/// In every request below, somewhere.
const SECRET: &str = "S3cret";

const HEADERS: u8 = 1;

#[track_caller]
fn expect_no_secret(what: &str, text: &str) {
    assert!(!text.contains(SECRET), "{what}: {text}");
}

/// Every line so far, once this many denials were written.
#[track_caller]
fn expect_no_secret_in_log(proxy: &Proxy, denials: usize) {
    let lines = eventually("a line for each denial", || {
        let lines = proxy.log_so_far();
        (lines.iter().filter(|line| line["event"] == "denied").count() >= denials).then_some(lines)
    });
    lines.iter().for_each(|line| expect_no_secret("log", &line.to_string()));
}

#[test]
fn no_secret_of_a_refused_url_over_http_1() {
    // At debug, so that libraries have their say, too.
    let config = "[[allow]]\npattern = \"good.example\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n";
    let rows: &[(&[u8], Option<&str>)] = &[
        (
            b"GET https://agent:S3cret@acme.my.connect.aws/x?X-Amz-Security-Token=S3cret",
            Some("https://acme.my.connect.aws"),
        ),
        (b"POST http://idp.corp/login?SAMLRequest=x&password=S3cret", Some("http://idp.corp")),
        (b"GET http://idp.corp:8080/reset/S3cret", Some("http://idp.corp:8080")),
        (b"GET http://idp.corp/login;jsessionid=S3cret", Some("http://idp.corp")),
        (b"GET http://idp.corp/#access_token=S3cret", Some("http://idp.corp")),
        (b"GET http://idp.corp?S3cret", Some("http://idp.corp")),
        (b"GET http://a@S3cret@idp.corp/", Some("http://idp.corp")),
        (b"GET http://S3cret:@[2001:db8::1]:80/", Some("http://[2001:db8::1]:80")),
        (b"GET http://agent%3AS3cret%40idp.corp/", None),
        (b"GET http://idp.corp;S3cret/", None),
        (b"GET ftp://agent:S3cret@files.corp/x", Some("ftp://files.corp")),
        (b"GET urn:token:S3cret", None),
        (b"CONNECT agent:S3cret@acme.my.connect.aws:443", Some("acme.my.connect.aws:443")),
        (b"CONNECT agent:a@S3cret@good.example:443", Some("good.example:443")),
        (b"CONNECT agent:S3cret%40good.example:443", None),
        (b"CONNECT good.example:443/S3cret", Some("good.example:443")),
        (b"CONNECT good.example:443?token=S3cret", Some("good.example:443")),
        (b"CONNECT good.example:443#S3cret", Some("good.example:443")),
        (b"CONNECT good.example;token=S3cret:443", None),
        (b"CONNECT https://agent:S3cret@good.example:443", Some("https://good.example:443")),
        (b"CONNECT [::1%25S3cret]:443", None),
        (b"CONNECT \xff\xfeS3cret:443", None),
        (b"CONNECT good.example\x1b]0;S3cret\x07:443", None),
        (b"GET http://idp.corp/\xc3\xa4?S3cret", None),
    ];
    let proxy = Proxy::start(config);
    let ask = |proxy: &Proxy, line: &[u8]| {
        let mut client: Raw = proxy.connect();
        client.send([line, b" HTTP/1.1\r\nHost: agent:S3cret@x\r\nCookie: S3cret\r\n\r\n"].concat());
        client.read_answer()
    };
    for (line, shown) in rows {
        let line_text = String::from_utf8_lossy(line);
        let answer = ask(&proxy, line);
        assert!(matches!(answer.status, 400 | 403), "{line_text}: {}", answer.head);
        expect_no_secret(&line_text, &answer.head);
        expect_no_secret(&line_text, &answer.text());
        if let Some(shown) = shown {
            let first = answer.text().lines().next().unwrap().to_owned();
            assert_eq!(first, format!("ccpgate refused {shown}"), "{line_text}");
        }
    }
    expect_no_secret_in_log(&proxy, rows.len());

    // A client that may not use the proxy, which gets all forms refused.
    let proxy = Proxy::start(&format!("{config}[proxy]\nclients = [\"192.0.2.1\"]"));
    let rows: &[(&[u8], &str)] = &[
        (b"POST /login/S3cret?token=S3cret", "/..."),
        (b"GET /proxy.pac?token=S3cret", "/proxy.pac"),
        (b"GET http://agent:S3cret@idp.corp/", "http://idp.corp"),
        (b"CONNECT agent:S3cret@good.example:443", "good.example:443"),
    ];
    for (line, shown) in rows {
        let answer = ask(&proxy, line);
        assert_eq!(answer.proxy_status("details"), Some("client"), "{}", answer.head);
        expect_no_secret("head", &answer.head);
        expect_no_secret("body", &answer.text());
        assert!(answer.text().starts_with(&format!("ccpgate refused {shown}\n")), "{}", answer.text());
        proxy.access_line("denied", shown);
    }
    expect_no_secret_in_log(&proxy, rows.len());
}

#[test]
fn no_secret_of_a_refused_url_over_http_2() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "[log]\nlevel = \"debug\"\nformat = \"json\"\n");
    let mut client = Frames::connect(&proxy, &secured.agent());
    let (connect, get, http) = ((":method", "CONNECT"), (":method", "GET"), (":scheme", "http"));
    let rows = [
        vec![connect, (":authority", "agent:S3cret@good.example:443")],
        vec![connect, (":authority", "agent:S3cret@evil.example:443")],
        vec![get, http, (":authority", "idp.corp"), (":path", "/S3cret?token=S3cret")],
        vec![get, http, (":authority", "agent:S3cret@idp.corp"), (":path", "/x")],
    ];
    let count = rows.len();
    for (row, stream) in rows.iter().zip((1..).step_by(2)) {
        // The end of the stream with the header, where no tunnel is asked for.
        client.request(stream, 1, row);
        let frame = client.expect(HEADERS, stream);
        expect_no_secret("head", &String::from_utf8_lossy(&frame.payload));
        let body = client.expect(0, stream);
        let body = String::from_utf8_lossy(&body.payload).into_owned();
        assert!(body.starts_with("ccpgate refused "), "{body}");
        expect_no_secret("body", &body);
    }
    expect_no_secret_in_log(&proxy, count);
}

/// A mirror's address may be signed. Its owner writes it and sees it; nobody else does.
#[test]
fn no_secret_of_a_url_in_the_configuration() {
    let config = |url: &str| {
        format!("[ranges]\nurl = \"{url}\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n[log]\nformat = \"json\"\n")
    };
    let signed = |signature: &str| format!("https://mirror.example/ip-ranges.json?sv=1&sig={signature}");
    let proxy = Proxy::start(&config("https://mirror.example/ip-ranges.json"));
    let (admin, file) = (format!("http://{}", proxy.admin()), proxy.config_file());
    let reload = |url: &str, code| {
        proxy.rewrite_config(&config(url));
        let said = ccpgate(None, &["reload", "--admin", &admin]).expect(code);
        let said = said.stdout + &said.stderr;
        expect_no_secret("reload", &said);
        said
    };
    let said = reload(&signed(SECRET), 0);
    let shown = "\"https://mirror.example/ip-ranges.json";
    assert!(said.contains(&format!("ranges.url: {shown}\" → {shown}?...\"")), "{said}");
    // Another signature is a change all the same.
    let said = reload(&signed("another-S3cret"), 0);
    assert!(
        said.contains(&format!("ranges.url: {shown}?...\", with another part that isn't shown")),
        "{said}"
    );
    // What is refused may be nearly right.
    let said = reload("http://mirror.example/ip-ranges.json?sig=S3cret", 1);
    assert!(said.contains("http://mirror.example/ip-ranges.json?..."), "{said}");
    let said = reload("mirror.example/ip-ranges.json#S3cret", 1);
    assert!(said.contains("mirror.example/ip-ranges.json#..."), "{said}");
    // And so may the key be.
    let misspelt = config(&signed(SECRET)).replace("url =", "ulr =");
    proxy.rewrite_config(&misspelt);
    let said = ccpgate(None, &["reload", "--admin", &admin]).expect(1).stdout;
    expect_no_secret("reload", &said);
    assert!(said.contains("ranges.ulr = \"https://mirror.example/ip-ranges.json?...\""), "{said}");
    proxy.rewrite_config(&config(&signed(SECRET)));
    for path in ["/api/status", "/api/history", "/metrics", "/"] {
        expect_no_secret(path, &proxy.get(path).text());
    }
    proxy.log_so_far().iter().for_each(|line| expect_no_secret("log", &line.to_string()));
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("ticket.tar.gz");
    let with_file =
        |arguments: &[&str]| ccpgate(None, &[&["-c", file.to_str().unwrap()], arguments].concat()).expect(0);
    with_file(&["bundle", archive.to_str().unwrap(), "--no-check", "--admin", &admin]);
    let mut tar = String::new();
    GzDecoder::new(std::fs::File::open(&archive).unwrap()).read_to_string(&mut tar).unwrap();
    expect_no_secret("bundle", &tar);
    assert!(tar.contains(&format!("url = {shown}?...\"")), "{tar}");
    for arguments in [&["config", "show"][..], &["config", "show", "--json"]] {
        let said = with_file(arguments).stdout;
        assert!(said.contains(&signed(SECRET)), "{said}");
    }
}
