//! Reloads: listeners that move, exchange addresses or fail to; a renewed certificate hides no failed
//! reload.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use rustix::process::Signal;
use serde_json::Value;

use super::{SUCCESSFUL, TARGET, TLS_FILES, rules};
use crate::support::{Port, Proxy, Raw, Secured, Upstream, eventually};

#[test]
fn a_renewed_certificate_does_not_hide_a_failed_reload() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let proxy = secured.start(&upstream, "", "");
    let good = secured.policy(&upstream, "", "");
    let state = || (proxy.metric(SUCCESSFUL), proxy.metric(TLS_FILES));
    proxy.reload("[policy]\nmode = \"lax\"\n", "error");
    assert_eq!(state(), (0.0, 1.0));
    let renew = || {
        let before = proxy.metric("ccpgate_reloads_total{result=\"ok\"}");
        secured.renew(|_| {});
        proxy.metric_eventually("ccpgate_reloads_total{result=\"ok\"}", before + 1.0);
    };
    renew();
    assert_eq!(state(), (0.0, 1.0), "the file is still broken");
    let status: Value = proxy.status();
    assert_eq!(status["last_reload_successful"], false, "{status}");
    assert_eq!(status["tls_files_last_load_successful"], true, "{status}");
    // A broken certificate that is repaired says nothing of the file either.
    secured.replace("proxy.pem", "");
    proxy.metric_eventually(TLS_FILES, 0.0);
    renew();
    assert_eq!(state(), (0.0, 1.0));
    proxy.reload(&good, "ok");
    assert_eq!(state(), (1.0, 1.0));
    // And the other way round: only the files are broken, and mended.
    secured.replace("proxy.pem", "");
    proxy.metric_eventually(TLS_FILES, 0.0);
    assert_eq!(state(), (0.0, 0.0));
    renew();
    assert_eq!(state(), (1.0, 1.0));
}

#[test]
fn a_listener_moves_to_an_overlapping_address_and_back() {
    let upstream = Upstream::echo();
    for (narrow, wide) in [("127.0.0.1", "0.0.0.0"), ("[::1]", "[::]")] {
        let port = Port::keep();
        let with = |host: &str| format!("[proxy]\nlisten = [\"{host}:{port}\"]\n{}", rules(&upstream));
        let proxy = Proxy::start(&with(narrow));
        let local: SocketAddr = format!("{narrow}:{port}").parse().unwrap();
        let mut moves = 0.0;
        for host in [wide, narrow, wide, narrow, wide] {
            // What waits in the queue when the signal comes was made to the old socket.
            proxy.signal(Signal::STOP);
            proxy.rewrite_config(&with(host));
            let mut waiting: Vec<Raw> = (0..50).map(|_| Raw::connect(local)).collect();
            proxy.signal(Signal::HUP);
            proxy.signal(Signal::CONT);
            for client in &mut waiting {
                assert_eq!(client.connect_target(TARGET).status, 200);
            }
            moves += 1.0;
            proxy.metric_eventually("ccpgate_reloads_total{result=\"ok\"}", moves);
            assert_eq!(Raw::connect(local).connect_target(TARGET).status, 200);
        }
        if wide == "0.0.0.0" {
            let mut client = Raw::connect((Ipv4Addr::new(127, 0, 0, 9), port.number()).into());
            assert_eq!(client.connect_target(TARGET).status, 200, "on every address now");
            proxy.reload(&with(narrow), "ok");
            assert!(
                TcpStream::connect((Ipv4Addr::new(127, 0, 0, 9), port.number())).is_err(),
                "and closed again"
            );
        }
        assert_eq!(proxy.metric("ccpgate_reloads_total{result=\"error\"}"), 0.0);
    }
}

#[test]
fn a_move_that_fails_in_part_changes_nothing() {
    let upstream = Upstream::echo();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, busy) = (Port::keep(), taken.local_addr().unwrap());
    let with = |listen: &str| format!("[proxy]\nlisten = {listen}\n{}", rules(&upstream));
    let proxy = Proxy::start(&with(&format!("[\"127.0.0.1:{port}\"]")));
    let waiting = Raw::connect(proxy.http());
    proxy.reload(&with(&format!("[\"0.0.0.0:{port}\", \"{busy}\"]")), "error");
    let line = proxy.log_line("the address", |line| line["event"] == "reload_failed");
    let error = line["error"].as_str().unwrap();
    assert!(error.contains(&busy.to_string()) && error.contains("another process"), "{error}");
    for mut client in [waiting, Raw::connect(proxy.http())] {
        assert_eq!(client.connect_target(TARGET).status, 200);
        client.expect_echo(b"as before");
    }
    assert!(
        TcpStream::connect((Ipv4Addr::new(127, 0, 0, 9), port.number())).is_err(),
        "nothing is left of it"
    );
    // An address that a listener which stays was given by the kernel.
    let admin = proxy.admin();
    proxy.reload(&with(&format!("[\"127.0.0.1:{port}\", \"0.0.0.0:{}\"]", admin.port())), "error");
    proxy.log_line("who holds it", |line| {
        line["event"] == "reload_failed"
            && line["error"]
                .as_str()
                .unwrap()
                .contains(&format!("held by this process, which listens on {admin} for admin.listen"))
    });
}

#[test]
fn addresses_are_exchanged_between_listeners() {
    let (upstream, secured) = (Upstream::echo(), Secured::new());
    let kept = [Port::keep(), Port::keep(), Port::keep()];
    let [one, two, three] = kept.each_ref().map(Port::number);
    let with = |http: u16, https: u16, admin: u16| {
        let tls = secured.section("").replace("127.0.0.1:0", &format!("127.0.0.1:{https}"));
        format!(
            "[proxy]\nlisten = [\"127.0.0.1:{http}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{tls}\n{}",
            rules(&upstream)
        )
    };
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let proxy = Proxy::start(&with(one, two, three));
    let mut live = proxy.tunnel(TARGET);
    let agent = secured.agent();
    for (http, https, admin) in [(two, one, three), (three, one, two), (one, two, three)] {
        proxy.rewrite_config(&with(http, https, admin));
        proxy.signal(Signal::HUP);
        eventually("the exchange", || {
            let mut client = Raw::connect(local(admin));
            client.send("GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            client.read_to_end().ok().filter(|got| got.ends_with(b"\r\n\r\nready\n"))
        });
        eventually("the plain listener", || {
            let mut client = Raw::connect(local(http));
            client.send(format!("CONNECT {TARGET} HTTP/1.1\r\nHost: {TARGET}\r\n\r\n"));
            client.try_read_exactly(12).filter(|got| got == b"HTTP/1.1 200")
        });
        eventually("the TLS listener", || {
            let mut client = agent.try_connect(local(https)).ok()?;
            (client.connect_target(TARGET).status == 200).then_some(())
        });
        live.expect_echo(b"a live tunnel goes on");
    }
    assert!(!proxy.log_so_far().iter().any(|line| line["event"] == "reload_failed"));
}
