//! Starts: those that fail, the first lines of those that don't, the socket that they open, and output that can't be
//! written.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{at, rules};
use crate::support::{Port, Proxy, Upstream, ccpgate, ccpgate_with, eventually, have};

#[test]
fn a_start_that_fails_is_an_object_where_the_log_is_json() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = format!("proxy.listen=[\"{}\"]", taken.local_addr().unwrap());
    let json = [("CCPGATE_LOG__FORMAT", "json")];
    let flag: &[&str] = &["serve", "--set", "log.format=json"];
    let admin = ["--set", "admin.listen=127.0.0.1:0"];
    let in_file = "[log]\nformat = \"json\"\n";
    for (file, arguments, variables, said) in [
        (None, [&["serve", "--set", &busy], &admin[..]].concat(), &json[..], "in use"),
        (None, [flag, &["--set", &busy], &admin[..]].concat(), &[], "in use"),
        (Some(in_file.to_owned()), [&["serve", "--set", &busy], &admin[..]].concat(), &[], "in use"),
        (
            Some(format!("{in_file}[limits]\nconnectoins = 1\nrequest_header = \"x\"\n")),
            vec!["serve"],
            &[],
            "connectoins",
        ),
        (
            Some(format!("{in_file}[tls]\nlisten = [\"127.0.0.1:0\"]\ncertificate = \"no.pem\"\n")),
            vec!["serve"],
            &[],
            "no.pem",
        ),
        (Some(format!("{in_file}[limits]\nconnections =\n")), vec!["serve"], &[], "TOML"),
        (Some("[limits\n".to_owned()), vec!["serve"], &json[..], "TOML"),
        (None, vec!["serve", "-c", "missing.toml"], &json[..], "missing.toml"),
        (None, vec!["serve", "--frobnicate"], &json[..], "--frobnicate"),
    ] {
        let ran = ccpgate_with(file.as_deref(), &arguments, variables).expect(2);
        let lines: Vec<Value> = ran
            .stderr
            .lines()
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {arguments:?}: {}", ran.stderr))
            })
            .collect();
        let last = lines.last().unwrap_or_else(|| panic!("no line: {arguments:?}"));
        assert_eq!((&last["event"], &last["level"]), (&"start_failed".into(), &"error".into()), "{last}");
        assert!(last["error"].as_str().unwrap().contains(said) && last["time"].is_string(), "{last}");
    }
    // For people it stays a plain line, and other commands never speak JSON there.
    let ran = ccpgate(Some("[limits]\nconnectoins = 1\n"), &["serve"]).expect(2);
    assert!(ran.stderr.starts_with("ccpgate: "), "{}", ran.stderr);
    let ran = ccpgate_with(Some("[limits]\nconnectoins = 1\n"), &["config", "check"], &json).expect(2);
    assert!(ran.stderr.starts_with("ccpgate: "), "{}", ran.stderr);
}

fn printing(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_ccpgate"))
        .args(arguments)
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    (ran.status.code().unwrap_or(-1), String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn output_that_cannot_be_written_is_an_error_and_a_reader_that_leaves_is_none() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for arguments in [
        &["pac"][..],
        &["allowlist", "--json"],
        &["allowlist"],
        &["explain", "acme.my.connect.aws"],
        &["config", "show"],
        &["config", "schema"],
        &["config", "check"],
        &["version"],
        &["--version"],
        &["--help"],
    ] {
        let (code, said) = printing(arguments, full(), Stdio::piped());
        assert!(code == 2 && said.contains("No space left"), "{arguments:?}: {code}, {said}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, said) = printing(arguments, writer, Stdio::piped());
        assert!(code == 0 && !said.contains("can't write"), "{arguments:?}: {code}, {said}");
        // Warnings that nobody can take don't spoil the answer.
        assert_eq!(printing(arguments, Stdio::null(), full()).0, 0, "{arguments:?}");
    }
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(printing(&["explain", "evil.example"], writer, Stdio::null()).0, 1, "the verdict stands");
}

#[test]
fn the_first_lines_are_true() {
    let upstream = Upstream::echo();
    let port = Port::keep();
    let proxy = Proxy::start(&format!(
        "[proxy]\nlisten = [\"0.0.0.0:{port}\"]\n[policy]\nmode = \"report\"\n{}",
        rules(&upstream)
    ));
    let starting = proxy.log_line("starting", |line| line["event"] == "starting");
    let said = starting["message"].as_str().unwrap();
    assert!(said.contains("report mode") && !said.contains("denies"), "{said}");
    let pac = proxy.log_line("ready", |line| line["event"] == "ready")["pac"].as_str().unwrap().to_owned();
    let address: SocketAddr = pac
        .strip_prefix("http://")
        .and_then(|rest| rest.strip_suffix("/proxy.pac"))
        .unwrap()
        .parse()
        .unwrap();
    assert!(!address.ip().is_unspecified() && address.port() == port.number(), "{pac}");
    // Reached, whether or not that address is one of proxy.clients.
    assert!(matches!(at(address, "GET", "/proxy.pac").status, 200 | 403));

    let advertised = Proxy::start(&format!(
        "[proxy]\nlisten = [\"[::]:0\"]\nadvertise = [\"https://p1.corp:3129\", \"p1.corp:3128\"]\n{}",
        rules(&upstream)
    ));
    let ready = advertised.log_line("ready", |line| line["event"] == "ready");
    assert_eq!(ready["pac"], "http://p1.corp:3128/proxy.pac");
    let line = advertised.log_line("IPv6 alone", |line| line["event"] == "ipv6_only");
    assert!(line["message"].as_str().unwrap().contains("0.0.0.0"), "{line}");
    let port = Port::keep();
    let both = Proxy::start(&format!(
        "[proxy]\nlisten = [\"[::]:{port}\", \"0.0.0.0:{port}\"]\n{}",
        rules(&upstream)
    ));
    both.log_line("ready", |line| line["event"] == "ready");
    assert!(!both.log_so_far().iter().any(|line| line["event"] == "ipv6_only"));
}

#[test]
fn rules_for_udp_have_no_series_of_tunnels() {
    let proxy = Proxy::start("");
    let metrics = proxy.metrics();
    for name in ["ccpgate_tunnels_active", "ccpgate_tunnels_total", "ccpgate_tunnel_bytes_total"] {
        let media = metrics.family(name).find(|(series, _)| series.contains("turnnlb"));
        assert_eq!(media, None);
        assert!(metrics.family(name).count() > 5);
    }
}

/// The socket tells whoever is let in what every client does, and gives it the listeners.
#[test]
fn another_users_process_gets_nothing_from_the_socket() {
    if !have("perl") || !rustix::process::geteuid().is_root() {
        eprintln!("skipped: another user's process takes root to start");
        return;
    }
    let (upstream, folder) = (Upstream::echo(), tempfile::tempdir().unwrap());
    let proxy = Proxy::start_in(folder.path(), &rules(&upstream), false);
    let socket = eventually("the socket", || {
        let file = fs::read_dir(folder.path()).unwrap().next()?.unwrap().path();
        fs::metadata(&file).ok().map(|metadata| (file, metadata))
    });
    assert_eq!(socket.1.permissions().mode() & 0o777, 0o600);
    let ask = |user: u32| {
        let script = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or exit 3; \
                      $SIG{PIPE} = 'IGNORE'; syswrite $s, qq(\"who\"\\n); sysread $s, my $got, 1000; print $got // ''";
        let mut perl = Command::new("perl");
        perl.args(["-e", script]).arg(&socket.0).uid(user).gid(user).current_dir("/");
        perl.output().unwrap()
    };
    assert!(String::from_utf8_lossy(&ask(0).stdout).contains("\"serves\":true"));
    const NOBODY: u32 = 65_534;
    assert_eq!(ask(NOBODY).status.code(), Some(3), "the file keeps it out");
    // Also where the file doesn't.
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket.0, PermissionsExt::from_mode(0o777)).unwrap();
    let ran = ask(NOBODY);
    assert_eq!(
        (ran.status.code(), ran.stdout.len()),
        (Some(0), 0),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    assert_eq!(proxy.get("/readyz").status, 200);
}
