use super::site;
use crate::support::ccpgate;

#[test]
fn what_cant_be_read_is_wrong_usage_and_keeps_secrets() {
    for (arguments, told) in [
        (&["--via", "proxy.corp:3128"][..], "did you mean \"http://proxy.corp:3128\"?"),
        (&["--via", "http://me:S3cret@proxy.corp"], "the port is missing"),
        (&["--via", "ftp://me:S3cret@proxy.corp:1"], "valid is http://HOST:PORT"),
        (&["--via", ""], "--via"),
        (&["--host", "a b"], "valid are host, host:port or a URL"),
        (&["--host", "*.example.com"], "belongs in patterns"),
        (&["--host", ""], "the host is empty"),
        (&["--hold", "soon"], "1s to 1h"),
        (&["--hold", "0s"], "1s to 1h"),
        (&["--hold", "-5s"], "1s to 1h"),
        (&["--hold", "2h"], "1s to 1h"),
        (&["--category", "voice"], "valid are login, signalling"),
        (&["--ws-url", "ws://a.example/S3cret"], "wss://HOST/PATH"),
        (&["--ca", "/nonexistent/ca.pem"], "/nonexistent/ca.pem"),
        (&["--clock-offset", "yesterday"], "1d"),
    ] {
        let ran = ccpgate(Some(&site("")), &[&["check"], arguments].concat()).expect(2);
        assert!(ran.stderr.contains(told), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(arguments[0]), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("S3cret") && ran.stdout.is_empty(), "{arguments:?}: {}", ran.stderr);
    }
}
