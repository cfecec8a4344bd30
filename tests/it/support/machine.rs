//! A machine of its own with a real systemd: booted by systemd-nspawn from a root that is made for
//! the test, with this machine's programs (read-only) and a network of its own, where every port and
//! address is free.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use super::have;

/// Folders of this machine that hold programs.
const PROGRAMS: [&str; 6] = ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "usr/libexec", "usr/share"];
/// A boot takes a second; a busy machine takes longer.
const BOOT: Duration = Duration::from_secs(120);
/// For anything awaited of it: service managers in a machine that is busy itself have the last turn.
const WAIT: Duration = Duration::from_secs(60);

/// A booted machine; switched off when this is dropped.
pub(crate) struct Machine {
    /// Held while it runs: machines of two test runs would share a control group, and break.
    _alone: fs::File,
    nspawn: Child,
    init: u32,
    folder: TempDir,
}

/// What a command on the machine said.
pub(crate) struct Said {
    pub code: i32,
    pub out: String,
}

impl Machine {
    /// Boots; none, with a notice, where the tools are missing (a failure in CI) or where this
    /// machine doesn't let us: without root, or in a sandbox that forbids it.
    pub(crate) fn boot() -> Option<Self> {
        Self::boot_with(&[], |programs, _| format!("--bind-ro={programs}"))
    }

    /// Boots one on which packages can be installed: its programs are this machine's until something is
    /// written over them, and so is the list of packages.
    pub(crate) fn boot_with_packages() -> Option<Self> {
        Self::boot_with(&["dpkg-deb", "apt-get"], |programs, folder| {
            let name = programs.trim_start_matches('/').replace('/', "-");
            let over = folder.join("over").join(name);
            fs::create_dir_all(&over).unwrap();
            format!("--overlay={programs}:{}:{programs}", over.display())
        })
    }

    /// `mount` is the option that gives it a folder of programs; it may put things into a folder beside
    /// the root.
    fn boot_with(tools: &[&str], mount: impl Fn(&str, &Path) -> String) -> Option<Self> {
        if !tools.iter().all(|tool| have(tool)) {
            return None;
        }
        if !["systemd-nspawn", "nsenter", "systemctl", "ip", "curl", "useradd"].into_iter().all(have) {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            return skipped("only root can boot a machine");
        }
        let alone = fs::File::create(std::env::temp_dir().join("ccpgate-test-machine.lock")).unwrap();
        alone.lock().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        make_root(&root);
        let log = fs::File::create(folder.path().join("console")).unwrap();
        let mut command = Command::new("systemd-nspawn");
        command.args(["--quiet", "--register=no", "--keep-unit", "--boot", "--private-network"]);
        command.args(["--console=pipe", "--machine=ccpgate-test"]).arg("--directory").arg(&root);
        for programs in PROGRAMS.iter().filter(|p| Path::new("/").join(p).is_dir()) {
            command.arg(mount(&format!("/{programs}"), folder.path()));
        }
        let nspawn =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut machine = Self { _alone: alone, nspawn, init: 0, folder };
        let until = Instant::now() + BOOT;
        loop {
            let ended = machine.nspawn.try_wait().unwrap();
            if ended.is_some() || Instant::now() > until {
                let console = fs::read(machine.folder.path().join("console")).unwrap_or_default();
                let how = ended.map_or("it hangs".to_owned(), |e| e.to_string());
                return skipped(&format!(
                    "no machine can be booted here: {how}: {}",
                    String::from_utf8_lossy(&console)
                ));
            }
            machine.init = child_of(machine.nspawn.id()).unwrap_or(0);
            if machine.init > 0 {
                let state = machine.run("systemctl is-system-running").out;
                if ["running", "degraded"].contains(&state.trim()) {
                    return Some(machine);
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A path on the machine, as seen from outside.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path.trim_start_matches('/'))
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs a shell script as root in /root/ccpgate; ends at its first failing command.
    pub(crate) fn run(&self, script: &str) -> Said {
        let ran = Command::new("nsenter")
            .args(["--all", "--target", &self.init.to_string(), "--", "/bin/sh", "-e", "-c"])
            .arg(format!("cd /root/ccpgate; exec 2>&1\n{script}"))
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
            .env("SYSTEMD_PAGER", "")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Said {
            code: ran.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr),
        }
    }

    /// Runs a script that must succeed, and returns what it said.
    #[track_caller]
    pub(crate) fn must(&self, script: &str) -> String {
        let said = self.run(script);
        if said.code != 0 {
            let log = self.run("journalctl --no-pager -n 60 -o short").out;
            panic!("exit code {} of\n{script}\n{}\nthe journal:\n{log}", said.code, said.out);
        }
        said.out
    }

    /// Waits until a script's output has this text.
    #[track_caller]
    pub(crate) fn eventually(&self, script: &str, text: &str) -> String {
        let until = Instant::now() + WAIT;
        loop {
            let out = self.run(script).out;
            if out.contains(text) {
                return out;
            }
            if Instant::now() > until {
                let log = self.run("journalctl --no-pager -n 60 -o short").out;
                panic!("waited {WAIT:?} for {text:?} in the output of\n{script}\n{out}\nthe journal:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Moves this thread into the machine's network, for good.
    pub(crate) fn enter_network(&self) {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.init)).unwrap();
        setns(network, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Whether it is switched off.
    pub(crate) fn is_off(&mut self) -> bool {
        self.nspawn.try_wait().unwrap().is_some()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.nspawn.try_wait().ok().flatten().is_some() {
            return;
        }
        // All its processes end with its first one, and the container with them.
        for id in [self.init, self.nspawn.id()] {
            if let Some(id) = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
            }
        }
        let _ = self.nspawn.wait();
    }
}

/// Not through `eprintln!`, which the test runner keeps to itself when a test passes.
fn skipped<T>(why: &str) -> Option<T> {
    let _ = writeln!(std::io::stderr(), "SKIPPED, the tests on a real systemd did not run: {why}");
    None
}

/// The first process of the container, once it is systemd.
fn child_of(parent: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    let child: u32 = children.split_whitespace().next()?.parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "systemd").then_some(child)
}

/// As little as systemd boots from, besides the programs. The machine id is set, so that it isn't a
/// first boot, which would enable every service that this machine has installed.
fn make_root(root: &Path) {
    for folder in [
        "etc/systemd/system",
        "usr/local/bin",
        "usr/local/sbin",
        "var",
        "tmp",
        "root/ccpgate",
        "proc",
        "sys",
        "dev",
        "run",
    ] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for link in ["bin", "sbin", "lib", "lib64"] {
        if Path::new("/").join(link).is_symlink() {
            symlink(format!("usr/{link}"), root.join(link)).unwrap();
        }
    }
    for (file, text) in [
        ("os-release", "NAME=test\nID=test\n"),
        ("machine-id", "0123456789abcdef0123456789abcdef\n"),
        (
            "passwd",
            "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:107::/:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n",
        ),
        ("group", "root:x:0:\nmessagebus:x:107:\nnogroup:x:65534:\n"),
        ("nsswitch.conf", "passwd: files systemd\ngroup: files systemd\nhosts: files\n"),
        ("login.defs", "SYS_UID_MIN 200\nSYS_UID_MAX 900\nSYS_GID_MIN 200\nSYS_GID_MAX 900\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("resolv.conf", "nameserver 127.0.0.1\n"),
        // Nothing of this machine's own is to be started.
        ("systemd/system/dbus-org.freedesktop.timesync1.service", ""),
    ] {
        fs::write(root.join("etc").join(file), text).unwrap();
    }
    let _ = fs::copy("/etc/ld.so.cache", root.join("etc/ld.so.cache"));
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}
