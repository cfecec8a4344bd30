//! Networks of our own: a client, a router and a server, each in a network namespace, with real
//! packets between them. Everything in it is gone when the threads that hold the namespaces end.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, held by a thread that works in it.
pub(crate) struct Network {
    jobs: Sender<Job>,
    thread: i32,
}

impl Network {
    /// None, with a notice, where this machine doesn't let us.
    pub(crate) fn new() -> Option<Self> {
        let (jobs, todo) = channel::<Job>();
        let (told, told_by) = channel();
        thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET);
            let refused = made.is_err();
            told.send(made.map(|()| gettid().as_raw())).unwrap();
            if !refused {
                todo.iter().for_each(|job: Job| job());
            }
        });
        match told_by.recv().unwrap() {
            Ok(thread) => Some(Self { jobs, thread }),
            Err(error) => {
                eprintln!("skipped: no network namespace: {error}");
                None
            }
        }
    }

    /// Does something in this network, and waits for it. What it starts stays there.
    #[track_caller]
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        self.jobs.send(Box::new(move || drop(done.send(job())))).unwrap();
        result.recv().expect("the job doesn't panic")
    }

    /// Runs a shell command in it, which must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, command: &str) -> String {
        let ran = self.try_sh(command);
        let out = String::from_utf8_lossy(&ran.stdout).into_owned();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{command}: {}\n{out}\n{said}", ran.status);
        out
    }

    pub(crate) fn try_sh(&self, command: &str) -> Output {
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(command).stdin(Stdio::null());
        self.run(move || shell.output().unwrap())
    }
}

/// A client whose way to a server leads over a router.
pub(crate) struct Routed {
    pub client: Network,
    pub router: Network,
    pub server: Network,
}

impl Routed {
    /// The server has these addresses.
    pub(crate) fn new(addresses: &[&str]) -> Option<Self> {
        let (client, router, server) = (Network::new()?, Network::new()?, Network::new()?);
        let (c, s) = (client.thread, server.thread);
        router.sh(&format!(
            "ip link add c0 type veth peer name eth0 netns {c}
             ip link add s0 type veth peer name eth0 netns {s}
             echo 1 > /proc/sys/net/ipv4/ip_forward
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
             ip link set lo up; ip link set c0 up; ip link set s0 up
             ip addr add 10.77.0.1/24 dev c0; ip addr add fd77::1/64 dev c0 nodad
             ip addr add 10.78.0.1/24 dev s0; ip addr add fd78::1/64 dev s0 nodad"
        ));
        for (network, end) in [(&client, 7), (&server, 8)] {
            network.sh(&format!(
                "ip link set lo up; ip link set eth0 up
                 ip addr add 10.7{end}.0.2/24 dev eth0; ip addr add fd7{end}::2/64 dev eth0 nodad
                 ip route add default via 10.7{end}.0.1; ip -6 route add default via fd7{end}::1"
            ));
        }
        for address in addresses {
            let (family, length, at_once) =
                if address.contains(':') { ("-6", 128, "nodad") } else { ("-4", 32, "") };
            server.sh(&format!("ip {family} addr add {address}/{length} dev lo {at_once}"));
            let via = if length == 128 { "fd78::2" } else { "10.78.0.2" };
            router.sh(&format!("ip {family} route add {address}/{length} via {via}"));
        }
        Some(Self { client, router, server })
    }
}
