//! SIGHUP: a changed file takes effect whole or not at all, and live tunnels don't notice.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use rustix::process::Signal;

use crate::support::{Over, Proxy, Raw, Upstream, ccpgate, eventually, ip_ranges};

const SUCCESSFUL: &str = "ccpgate_config_last_reload_successful";

fn policy(names: &[&str], upstream: &Upstream) -> String {
    let rules: String = names.iter().map(|name| format!("[[allow]]\npattern = \"{name}\"\n")).collect();
    format!("{rules}{}", upstream.for_targets(&["old.example:443", "new.example:443", "kept.example:443"]))
}

#[test]
fn a_new_policy_is_for_new_tunnels() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&policy(&["old.example", "kept.example"], &upstream));
    let mut live = proxy.tunnel("old.example:443");
    live.expect_echo(b"before");
    assert_eq!(proxy.connect().connect_target("new.example:443").status, 403);

    proxy.reload(&policy(&["new.example", "kept.example"], &upstream), "ok");
    live.expect_echo(b"the live tunnel goes on");
    proxy.tunnel("new.example:443").expect_echo(b"newly allowed");
    proxy.tunnel("kept.example:443").expect_echo(b"still allowed");
    assert_eq!(proxy.connect().connect_target("old.example:443").status, 403);
    assert_eq!(proxy.metric(SUCCESSFUL), 1.0);

    // A removed rule's series stays for now: its last values can still be scraped.
    let active = "ccpgate_tunnels_active{domain=\"old.example\",category=\"extra\"}";
    assert_eq!(proxy.metric(active), 1.0);
    live.finish();
    live.expect_closed();
    proxy.metric_eventually(active, 0.0);
    let total = "ccpgate_tunnels_total{domain=\"old.example\",category=\"extra\",outcome=\"ok\"}";
    proxy.metric_eventually(total, 1.0);
    let line = proxy.access_line("tunnel", "old.example:443");
    assert_eq!(line["domain"], "old.example", "as it was when the tunnel began: {line}");

    // With the next reload it goes, since no tunnel is under it any more; that of a kept rule counts on.
    proxy.reload(&policy(&["new.example", "kept.example"], &upstream), "ok");
    assert!(!proxy.metrics().text.contains("old.example"));
    let kept = "ccpgate_tunnels_total{domain=\"kept.example\",category=\"extra\",outcome=\"ok\"}";
    proxy.metric_eventually(kept, 1.0);
}

#[test]
fn a_removed_rule_keeps_its_series_as_long_as_a_tunnel_is_under_it() {
    let upstream = Upstream::echo();
    let both = policy(&["old.example", "kept.example"], &upstream);
    let proxy = Proxy::start(&both);
    let mut live = proxy.tunnel("old.example:443");
    live.expect_echo(b"before");
    let active = "ccpgate_tunnels_active{domain=\"old.example\",category=\"extra\"}";
    for _ in 0..3 {
        proxy.reload(&policy(&["kept.example"], &upstream), "ok");
        live.expect_echo(b"counted");
        assert_eq!(proxy.metric(active), 1.0);
    }
    // Back in force, it counts on from where it was.
    proxy.reload(&both, "ok");
    proxy.tunnel("old.example:443").expect_echo(b"once more");
    let sent = "ccpgate_tunnel_bytes_total{domain=\"old.example\",category=\"extra\",direction=\"sent\"}";
    proxy.metric_eventually(sent, ("before".len() + 3 * "counted".len() + "once more".len()) as f64);
}

#[test]
fn a_refused_reload_leaves_the_series_as_they_were() {
    let upstream = Upstream::echo();
    let both = policy(&["old.example", "kept.example"], &upstream);
    let proxy = Proxy::start(&both);
    let total =
        |name: &str| format!("ccpgate_tunnels_total{{domain=\"{name}\",category=\"extra\",outcome=\"ok\"}}");
    let use_once = |name: &str, times: f64| {
        let mut tunnel = proxy.tunnel(&format!("{name}:443"));
        tunnel.finish();
        tunnel.expect_closed();
        proxy.metric_eventually(&total(name), times);
    };
    use_once("old.example", 1.0);
    use_once("kept.example", 1.0);
    proxy.reload(&policy(&["kept.example"], &upstream), "ok");
    let domains = || {
        let text = proxy.metrics().text;
        let all = text.lines().filter_map(|line| line.split_once("domain=\"")?.1.split('"').next());
        all.map(str::to_owned).collect::<std::collections::BTreeSet<_>>()
    };
    let before = domains();
    assert!(before.contains("old.example") && !before.contains("new.example"), "{before:?}");

    // What would deny agents what they use is refused, after all that it needs was made.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ip-ranges.json");
    std::fs::write(&file, ip_ranges(Timestamp::now(), &["us-west-2 EC2 198.51.100.0/24"])).unwrap();
    let services = format!("[policy]\nip_targets = \"ranges\"\n[ranges]\nfile = \"{}\"\n", file.display());
    let admin = format!("http://{}", proxy.admin());
    let ask = |toml: &str, arguments: &[&str], code| {
        proxy.rewrite_config(toml);
        let ran = ccpgate(None, &[&["reload", "--admin", &admin], arguments].concat());
        assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    };
    let loses = |more: &str| policy(&["new.example", "new.example"], &upstream) + more;
    for more in ["", services.as_str(), ""] {
        ask(&loses(more), &[], 1);
        assert_eq!(domains(), before);
    }
    assert_eq!(proxy.metric(&total("old.example")), 1.0, "its last value can still be scraped");
    // The next one that takes effect brings the rule back, which counts on.
    ask(&both, &[], 0);
    use_once("old.example", 2.0);
    // A person takes what was refused: the new series begin, and those of the removed rules go one reload later.
    for removed_stay in [true, false] {
        ask(&loses(&services), &["--yes"], 0);
        let now = domains();
        assert!(now.contains("new.example") && now.contains("ec2_tcp_443"), "{now:?}");
        assert_eq!(now.contains("old.example") && now.contains("kept.example"), removed_stay, "{now:?}");
    }
    use_once("new.example", 1.0);
}

#[test]
fn an_invalid_file_changes_nothing_and_says_why() {
    let upstream = Upstream::echo();
    let good = policy(&["old.example"], &upstream);
    let proxy = Proxy::start(&good);
    let mut live = proxy.tunnel("old.example:443");
    for (broken, hint) in [
        ("[[allow]\n", "ccpgate.toml"),
        ("[limits]\nconnectoins = 5\n", "connections"),
        ("[policy]\nmode = \"lax\"\n", "enforce"),
        ("[connect]\nregions = [\"us-wset-2\"]\n", "us-west-2"),
        ("[proxy]\nclients = [\"10.0.0.0/33\"]\n", "clients"),
        ("[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"missing.pem\"\nkey = \"missing.key\"\n", "tls"),
    ] {
        // Completed where that is possible, so that nothing but the mistake is new.
        match broken.parse::<toml::Table>() {
            Ok(_) => proxy.rewrite_config(broken),
            Err(_) => proxy.rewrite_config_raw(broken),
        }
        proxy.hang_up("error");
        assert_eq!(proxy.metric(SUCCESSFUL), 0.0);
        proxy.log_line(&format!("the failure, with {hint}"), |line| {
            line["level"] == "error" && line.to_string().contains(hint)
        });
        live.expect_echo(b"live");
        proxy.tunnel("old.example:443").expect_echo(b"the old policy is in force");
        assert_eq!(proxy.get("/readyz").status, 200, "ready with the old configuration");
    }
    std::fs::remove_file(proxy.config_file()).unwrap();
    proxy.hang_up("error");
    proxy.tunnel("old.example:443").expect_echo(b"a missing file changes nothing either");
    std::fs::create_dir(proxy.config_file()).unwrap();
    proxy.hang_up("error");
    std::fs::remove_dir(proxy.config_file()).unwrap();
    std::fs::File::create(proxy.config_file()).unwrap().set_len(100 << 20).unwrap();
    proxy.hang_up("error");
    proxy.tunnel("old.example:443").expect_echo(b"nor does a folder or one of a hundred megabytes");
    proxy.reload(&good, "ok");
    assert_eq!(proxy.metric(SUCCESSFUL), 1.0);
}

#[test]
fn many_signals_at_once_do_no_harm() {
    let upstream = Upstream::echo();
    let proxy = Proxy::start(&policy(&["old.example"], &upstream));
    let mut live = proxy.tunnel("old.example:443");
    proxy.rewrite_config(&policy(&["new.example"], &upstream));
    for _ in 0..100 {
        proxy.signal(Signal::HUP);
    }
    eventually("the new policy", || {
        (proxy.connect().connect_target("new.example:443").status == 200).then_some(())
    });
    live.expect_echo(b"live");
    let counted = || proxy.metric("ccpgate_reloads_total{result=\"ok\"}") >= 1.0;
    eventually("a reload to be counted", || counted().then_some(()));
    assert_eq!(proxy.metric("ccpgate_reloads_total{result=\"error\"}"), 0.0);
}

#[test]
fn reloads_under_load_lose_no_request() {
    let upstream = Upstream::echo();
    let first = policy(&["kept.example", "old.example"], &upstream);
    let second = policy(&["kept.example", "new.example"], &upstream);
    let proxy = Proxy::start(&first);
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let address = proxy.http();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let mut client = Raw::connect(address);
                    assert_eq!(client.connect_target("kept.example:443").status, 200);
                    client.expect_echo(b"x");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _over = Over(&stop);
        for at in 0..20 {
            proxy.reload(if at % 2 == 0 { &second } else { &first }, "ok");
        }
    });
    assert!(served.load(Ordering::Relaxed) > 20);
}

#[test]
fn listeners_change_or_the_reload_says_that_they_cannot() {
    let upstream = Upstream::echo();
    let rules = policy(&["old.example"], &upstream);
    let proxy = Proxy::start(&rules);
    let mut live = proxy.tunnel("old.example:443");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap();
    proxy.reload(&format!("[proxy]\nlisten = [\"127.0.0.1:0\", \"{busy}\"]\n{rules}"), "error");
    proxy.log_line("the address in use", |line| {
        line["level"] == "error" && line.to_string().contains(&busy.to_string())
    });
    proxy.tunnel("old.example:443").expect_echo(b"the old listener serves");

    // Now the address is free.
    drop(taken);
    proxy.reload(&format!("[proxy]\nlisten = [\"{busy}\"]\n{rules}"), "ok");
    let mut moved = eventually("the new listener", || {
        std::net::TcpStream::connect(busy).ok().map(|_| Raw::connect(busy))
    });
    assert_eq!(moved.connect_target("old.example:443").status, 200);
    moved.expect_echo(b"on the new address");
    live.expect_echo(b"accepted on the old address");
    let old = proxy.http();
    eventually("the old listener's end", || std::net::TcpStream::connect(old).is_err().then_some(()));
}

#[test]
fn limits_and_clients_change_too() {
    let upstream = Upstream::echo();
    let rules = policy(&["old.example"], &upstream);
    let proxy = Proxy::start(&rules);
    let _live = proxy.tunnel("old.example:443");
    let waiting = proxy.connect();
    proxy.metric_eventually("ccpgate_client_connections{listener=\"http\"}", 2.0);
    proxy.reload(&format!("[proxy]\nclients = [\"127.0.0.2/32\"]\n{rules}"), "ok");
    // A connection that was open but had asked for nothing is judged as a new one.
    for mut client in [waiting, proxy.connect()] {
        let answer = client.connect_target("old.example:443");
        assert_eq!(answer.proxy_status("details"), Some("client"), "{}", answer.head);
    }

    proxy.reload(&format!("[limits]\nheader_timeout = \"300ms\"\n{rules}"), "ok");
    let mut slow = proxy.connect();
    slow.send("CONNECT ");
    assert_eq!(slow.read_answer().status, 408);
}

#[test]
fn a_reload_on_the_embedded_default_is_fine() {
    let proxy = Proxy::start_on_default();
    proxy.hang_up("ok");
    assert_eq!(proxy.get("/readyz").status, 200);
}
