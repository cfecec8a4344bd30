//! One TLS 1.3 ticket for six connections at once. rustls' client spends each ticket once, so this
//! takes one that doesn't: `openssl s_client`.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ccpgate::tls::{ManualClock, Offer};
use rustls::{ServerConnection, StreamOwned};

use super::support::{Ca, MORNING, Replica};

#[test]
fn one_ticket_serves_six_connections_at_once() {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        assert!(std::env::var_os("CI").is_none(), "openssl is missing");
        eprintln!("skipped: openssl is missing");
        return;
    }
    let ca = Ca::new();
    let replica = Arc::new(Replica::start(&ca, &ManualClock::new(MORNING), &[]));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = std::thread::spawn(move || {
        let connections: Vec<_> = (0..14)
            .map(|_| {
                let (stream, _) = listener.accept().unwrap();
                let (config, _) = replica.template.per_connection(Offer::All).unwrap();
                std::thread::spawn(move || {
                    let server = ServerConnection::new(config).unwrap();
                    let mut tls = StreamOwned::new(server, stream);
                    tls.write_all(b"hello\n").unwrap();
                    tls.conn.send_close_notify();
                    let _ = tls.flush();
                    // Waits for the client to go, so that no reset overtakes the tickets.
                    let _ = std::io::copy(&mut tls, &mut std::io::sink());
                })
            })
            .collect();
        connections.into_iter().for_each(|c| c.join().unwrap());
    });
    for version in ["-tls1_3", "-tls1_2"] {
        let session = ca.file("session.pem");
        let client = |flag: &str| {
            Command::new("openssl")
                .args(["s_client", "-connect", &address, "-servername", "proxy.example", version, flag])
                .arg(&session)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .args(["-ign_eof"])
                .spawn()
                .unwrap()
        };
        let first = client("-sess_out").wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&first.stdout).contains("New, TLSv1."));
        let six: Vec<_> = (0..6).map(|_| client("-sess_in")).collect();
        for one in six {
            let output = one.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("Reused, TLSv1."), "{version}:\n{text}");
        }
    }
    server.join().unwrap();
}
