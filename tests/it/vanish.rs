//! Clients that vanish without a word, and one that only seems to. These take as long as the
//! contract allows, two minutes, so they run when asked for: `cargo test vanish -- --ignored`.

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use crate::support::{Over, Proxy, Raw, Upstream};

/// What the contract gives a proxy to notice.
const TWO_MINUTES: Duration = Duration::from_secs(120);

/// Names and ports of four tunnels that differ in what is under way when the client vanishes.
const SILENT: &str = "silent.example:443";
const SPOKEN_TO: &str = "spoken.example:443";
const STUCK_UP: &str = "up.example:443";
const STUCK_DOWN: &str = "down.example:443";

fn policy(targets: &[(&str, &Upstream)], more: &str) -> String {
    let mut text = String::new();
    for (target, _) in targets {
        text.push_str(&format!("[[allow]]\npattern = \"{}\"\n", target.trim_end_matches(":443")));
    }
    text.push_str(more);
    text.push_str("\n[egress.connect_to]\n");
    for (target, upstream) in targets {
        text.push_str(&format!("\"{target}\" = \"{}\"\n", upstream.address()));
    }
    text
}

/// Sends whatever fits, for as long as it fits.
fn pushes() -> Upstream {
    Upstream::serve(|mut stream| {
        let chunk = [7; 64 * 1024];
        stream.set_write_timeout(None).unwrap();
        while std::io::Write::write_all(&mut stream, &chunk).is_ok() {}
    })
}

/// Takes nothing until it is told to stop.
fn takes_nothing(stop: Arc<AtomicBool>) -> Upstream {
    Upstream::serve(move |_stream| {
        while !stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(50));
        }
    })
}

/// Sends back the first bytes it gets, and a few more when it is told; then it waits.
fn speaks_when(told: Arc<AtomicBool>) -> Upstream {
    Upstream::serve(move |mut stream| {
        let mut first = [0; 5];
        stream.read_exact(&mut first).unwrap();
        std::io::Write::write_all(&mut stream, &first).unwrap();
        while !told.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        // Of the silent one nobody is left to hear it.
        let _ = std::io::Write::write_all(&mut stream, b"are you there?");
        stream.set_read_timeout(None).unwrap();
        let _ = stream.read(&mut [0; 1]);
    })
}

fn ip(arguments: &str) {
    let ran = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(ran.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// Writes until nothing fits any more.
fn fill(client: &Raw) {
    client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let blocked = std::io::Write::write_all(&mut client.stream(), &vec![0; 64 << 20]).is_err();
    assert!(blocked, "64 MiB vanished into buffers");
}

/// A machine of its own, joined to this one by a cable: how a client can vanish.
#[test]
#[ignore = "takes the two minutes that the contract allows; needs root for a network namespace"]
fn a_client_that_vanishes_is_noticed_within_two_minutes() {
    // Threads keep the namespace they are made in, and so do the processes they start.
    thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            eprintln!("skipped: no network namespace: {error}");
            return;
        }
        ip("link set lo up");
        let (stop, told) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        // Never told, it is silent all along.
        let silent = speaks_when(stop.clone());
        let (talker, mute, pusher) = (speaks_when(told.clone()), takes_nothing(stop.clone()), pushes());
        let _over = Over(&stop);
        let targets = [(SILENT, &silent), (SPOKEN_TO, &talker), (STUCK_UP, &mute), (STUCK_DOWN, &pusher)];
        let proxy = Proxy::start(&policy(
            &targets,
            "[proxy]\nlisten = [\"0.0.0.0:0\"]\nclients = [\"198.18.0.0/24\"]\n",
        ));
        let port = proxy.http().port();

        let (ready, is_ready) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let laptop = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            may_go_on.recv().unwrap();
            ip("addr add 198.18.0.2/24 dev laptop");
            ip("link set laptop up");
            let connect = |target| {
                let mut client = Raw::connect(([198, 18, 0, 1], port).into());
                let answer = client.connect_target(target);
                assert_eq!(answer.status, 200, "{}", answer.head);
                client
            };
            let mut clients = [SILENT, SPOKEN_TO, STUCK_UP, STUCK_DOWN].map(connect);
            clients[0].expect_echo(b"hello");
            clients[1].expect_echo(b"hello");
            fill(&clients[2]);
            thread::sleep(Duration::from_secs(1));
            // Asleep: what comes is for nobody here.
            ip("addr del 198.18.0.2/24 dev laptop");
            ready.send(nix::unistd::gettid()).unwrap();
            may_go_on.recv().unwrap();
            drop(clients);
        });
        let thread_id = is_ready.recv().unwrap();
        ip(&format!("link add proxy type veth peer name laptop netns {thread_id}"));
        ip("addr add 198.18.0.1/24 dev proxy");
        ip("link set proxy up");
        go_on.send(()).unwrap();
        is_ready.recv().unwrap();
        let vanished = Instant::now();
        told.store(true, Ordering::SeqCst);

        let mut waiting = vec![SILENT, SPOKEN_TO, STUCK_UP, STUCK_DOWN];
        while !waiting.is_empty() {
            assert!(vanished.elapsed() < TWO_MINUTES, "not noticed: {waiting:?}");
            for line in proxy.log_so_far().iter().filter(|line| line["event"] == "tunnel") {
                let Some(at) = waiting.iter().position(|target| line["target"] == *target) else { continue };
                eprintln!("{} noticed after {:?}", waiting.remove(at), vanished.elapsed());
                assert_eq!(
                    (&line["outcome"], &line["ended_by"]),
                    (&"client_reset".into(), &"proxy".into()),
                    "{line}"
                );
            }
            thread::sleep(Duration::from_millis(200));
        }
        go_on.send(()).unwrap();
        laptop.join().unwrap();
        proxy.metric_eventually("ccpgate_client_connections{listener=\"http\"}", 0.0);
    })
    .join()
    .unwrap();
}

#[test]
#[ignore = "takes longer than the two minutes after which a vanished client is given up"]
fn a_client_that_does_not_read_for_more_than_two_minutes_is_not_taken_for_vanished() {
    let stop = Arc::new(AtomicBool::new(false));
    let (pusher, mute) = (pushes(), takes_nothing(stop.clone()));
    let _over = Over(&stop);
    let proxy = Proxy::start(&policy(&[(STUCK_DOWN, &pusher), (STUCK_UP, &mute)], ""));
    let (down, up) = (proxy.tunnel(STUCK_DOWN), proxy.tunnel(STUCK_UP));
    fill(&up);
    let begun = Instant::now();
    while begun.elapsed() < TWO_MINUTES + Duration::from_secs(20) {
        let ended = proxy.log_so_far().into_iter().find(|line| line["event"] == "tunnel");
        assert!(ended.is_none(), "after {:?}: {ended:?}", begun.elapsed());
        thread::sleep(Duration::from_secs(1));
    }
    // It goes on as if nothing had been.
    let mut stream: &TcpStream = down.stream();
    let mut chunk = vec![0; 1 << 20];
    let mut total = 0;
    while total < 64 << 20 {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0 && chunk[..count].iter().all(|byte| *byte == 7));
        total += count;
    }
}
