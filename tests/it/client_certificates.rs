//! `tls.client_ca`: who shows no certificate of it is not let in, whose it is stands in the log, and
//! a resumed session is judged as the first one was.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::version::{TLS12, TLS13};
use serde_json::Value;

use crate::support::{Agent, Authority, H2, Proxy, Secured, Upstream, handshakes};

const TARGET: &str = "good.example:443";
const VERSIONS: [&rustls::SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn client_ca(secured: &Secured) -> String {
    format!("client_ca = {:?}\n", secured.path("clients.pem"))
}

/// The listener and the authority of its clients.
fn start(upstream: &Upstream) -> (Secured, Authority, Proxy) {
    let (secured, clients) = (Secured::new(), Authority::new());
    fs::write(secured.path("clients.pem"), clients.pem()).unwrap();
    let proxy = secured.start(upstream, &client_ca(&secured), "");
    (secured, clients, proxy)
}

fn agent(
    secured: &Secured,
    clients: &Authority,
    version: &'static rustls::SupportedProtocolVersion,
) -> Agent {
    Agent::with_certificate(&secured.authority, &[version], clients.client_certificate("agent 7", |_| {}))
}

#[test]
fn without_a_certificate_of_the_ca_nobody_gets_in() {
    let upstream = Upstream::echo();
    let (secured, clients, proxy) = start(&upstream);
    let foreign = Authority::new();
    for version in VERSIONS {
        let none = Agent::of_version(&secured.authority, version);
        assert!(none.try_visit(proxy.https()).is_err(), "{version:?}");
        let stranger = agent(&secured, &foreign, version);
        assert!(stranger.try_visit(proxy.https()).is_err(), "{version:?}");
        let over = clients.client_certificate("late", |params| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        });
        let over = Agent::with_certificate(&secured.authority, &[version], over);
        assert!(over.try_visit(proxy.https()).is_err(), "{version:?}");
        assert!(agent(&secured, &clients, version).try_visit(proxy.https()).is_ok());
    }
    for said in ["shows no certificate", "UnknownIssuer", "certificate expired"] {
        let line = proxy.log_line(said, |line| {
            line["event"] == "handshake_failed" && line["error"].as_str().unwrap().contains(said)
        });
        assert_eq!(line["level"], "warn", "an administrator can remedy that: {line}");
    }
    assert_eq!(handshakes(&proxy.metrics()), (2.0, 0.0), "those that failed don't count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_subject_stands_in_the_log_resumed_or_not() {
    let upstream = Upstream::echo();
    let (secured, clients, proxy) = start(&upstream);
    for version in VERSIONS {
        let agent = agent(&secured, &clients, version);
        for resumed in [false, true] {
            let mut client = agent.connect(&proxy);
            assert_eq!(client.resumed(), resumed);
            assert_eq!(client.connect_target(TARGET).status, 200);
            client.expect_echo(b"hello");
            let local = client.local().to_string();
            drop(client);
            let line = proxy.log_line("its tunnel", |l| l["event"] == "tunnel" && l["client"] == local);
            assert!(line["client_cert"].as_str().unwrap().contains("CN=agent 7"), "{line}");
        }
        let mut client = agent.connect(&proxy);
        client.connect_target("evil.example:443");
        let local = client.local().to_string();
        let line = proxy.log_line("its denial", |l| l["event"] == "denied" && l["client"] == local);
        assert!(line["client_cert"].as_str().unwrap().contains("CN=agent 7"), "{line}");
    }
    let agent = agent(&secured, &clients, &TLS13);
    let mut client = H2::connect(&proxy, &agent).await;
    client.tunnel(TARGET).await.expect_echo(b"over HTTP/2").await;
    let local = client.local.to_string();
    drop(client);
    let line = proxy.log_line("its tunnel", |l| l["event"] == "tunnel" && l["client"] == local);
    assert!(line["client_cert"].as_str().unwrap().contains("CN=agent 7"), "{line}");
    // Where none was shown, there is none.
    let mut plain = proxy.connect();
    plain.connect_target("evil.example:443");
    let local = plain.local().to_string();
    let line = proxy.log_line("the plain denial", |l| l["event"] == "denied" && l["client"] == local);
    assert_eq!(line["client_cert"], Value::Null, "{line}");
}

#[test]
fn a_subject_cannot_write_lines_of_its_own_into_the_log() {
    let upstream = Upstream::echo();
    let (secured, clients, proxy) = start(&upstream);
    let name = "agent\n{\"event\":\"tunnel\",\"target\":\"forged\"}";
    let agent =
        Agent::with_certificate(&secured.authority, &[&TLS13], clients.client_certificate(name, |_| {}));
    let mut client = agent.connect(&proxy);
    client.connect_target("evil.example:443");
    let line = proxy.access_line("denied", "evil.example:443");
    assert!(!line["client_cert"].as_str().unwrap().contains('\n'), "{line}");
    assert!(!proxy.log_so_far().iter().any(|line| line["target"] == "forged"));
}

#[test]
fn a_session_ends_with_the_certificate_that_it_rests_on() {
    let upstream = Upstream::echo();
    let (secured, clients, proxy) = start(&upstream);
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3);
    let agents = VERSIONS.map(|version| {
        let certificate = clients.client_certificate("until noon", |params| {
            params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(end.as_secs());
        });
        Agent::with_certificate(&secured.authority, &[version], certificate)
    });
    for agent in &agents {
        assert!(!agent.resumes(&proxy));
        assert!(agent.resumes(&proxy));
    }
    while SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() <= end.as_secs() {
        std::thread::sleep(Duration::from_millis(50));
    }
    for agent in &agents {
        assert!(agent.try_visit(proxy.https()).is_err(), "a full handshake, and its certificate is over");
    }
}

#[test]
fn a_changed_client_ca_ends_all_sessions_and_leaves_tunnels_alone() {
    let upstream = Upstream::echo();
    let (secured, clients, proxy) = start(&upstream);
    let agents = VERSIONS.map(|version| agent(&secured, &clients, version));
    for agent in &agents {
        assert!(!agent.resumes(&proxy));
        assert!(agent.resumes(&proxy));
    }
    let mut live = agents[0].connect(&proxy);
    assert_eq!(live.connect_target(TARGET).status, 200);

    // The same CA in a file that was written anew keeps them.
    secured.replace("clients.pem", &format!("# the clients' CA\n{}", clients.pem()));
    proxy.hang_up("ok");
    for agent in &agents {
        assert!(agent.resumes(&proxy));
    }
    // Another one beside it ends them: a full handshake, that succeeds.
    let second = Authority::new();
    secured.replace("clients.pem", &format!("{}{}", clients.pem(), second.pem()));
    proxy.hang_up("ok");
    for agent in &agents {
        assert!(!agent.resumes(&proxy));
        assert!(agent.resumes(&proxy));
    }
    // Another one in its place ends them, and lets their owners in no more.
    secured.replace("clients.pem", &second.pem());
    proxy.hang_up("ok");
    for agent in &agents {
        assert!(agent.try_visit(proxy.https()).is_err());
    }
    assert!(!agent(&secured, &second, &TLS13).resumes(&proxy));
    live.expect_echo(b"a live tunnel goes on");
}

#[test]
fn a_session_from_before_client_ca_does_not_get_around_it() {
    let (upstream, secured, clients) = (Upstream::echo(), Secured::new(), Authority::new());
    fs::write(secured.path("clients.pem"), clients.pem()).unwrap();
    let proxy = secured.start(&upstream, "", "");
    let agents = VERSIONS.map(|version| Agent::of_version(&secured.authority, version));
    for agent in &agents {
        assert!(!agent.resumes(&proxy));
        assert!(agent.resumes(&proxy));
    }
    proxy.reload(&secured.policy(&upstream, &client_ca(&secured), ""), "ok");
    for agent in &agents {
        assert!(agent.try_visit(proxy.https()).is_err());
    }
}

#[test]
fn a_client_ca_that_cannot_be_used_is_refused() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    for (text, said) in [("", "holds no certificate"), ("junk", "holds no certificate")] {
        fs::write(secured.path("clients.pem"), text).unwrap();
        let policy = secured.policy(&upstream, &client_ca(&secured), "");
        let ran = crate::support::ccpgate(Some(&policy), &["serve"]).expect(2);
        assert!(ran.stderr.contains("tls.client_ca") && ran.stderr.contains(said), "{}", ran.stderr);
    }
}
