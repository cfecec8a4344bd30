//! A network of routers in namespaces of its own: this machine, three routers, and a far one that
//! nobody answers at. The routers do with UDP what a test wants.

use std::process::{Command, Stdio};

use super::{Ran, have};

/// The far machine.
pub(crate) const FAR: &str = "198.18.0.7";
pub(crate) const FAR_SIX: &str = "fd00:9::7";
/// The three routers' addresses on the side of this machine, nearest first.
pub(crate) const ROUTERS: [&str; 3] = ["10.10.0.1", "10.20.1.1", "10.20.2.1"];
pub(crate) const ROUTERS_SIX: [&str; 3] = ["fd00:1::1", "fd00:2::1", "fd00:3::1"];

/// Port 3478 vanishes behind the third router, port 3479 is forbidden by the second.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs tmpfs /run
ip link set lo up
for n in r1 r2 r3 far; do ip netns add $n; ip -n $n link set lo up; done
ip link add e0 type veth peer name west netns r1
ip -n r1 link add east type veth peer name west netns r2
ip -n r2 link add east type veth peer name west netns r3
ip -n r3 link add east type veth peer name west netns far
have() { ip -n $1 addr add $3 dev $2; ip -n $1 addr add $4 dev $2 nodad; ip -n $1 link set $2 up; }
ip addr add 10.10.0.2/24 dev e0; ip addr add fd00:1::2/64 dev e0 nodad; ip link set e0 up
have r1 west 10.10.0.1/24 fd00:1::1/64; have r1 east 10.20.1.2/24 fd00:2::2/64
have r2 west 10.20.1.1/24 fd00:2::1/64; have r2 east 10.20.2.2/24 fd00:3::2/64
have r3 west 10.20.2.1/24 fd00:3::1/64; have r3 east 198.18.0.1/24 fd00:9::1/64
have far west 198.18.0.7/24 fd00:9::7/64
ip route add default via 10.10.0.1; ip route add default via fd00:1::1
ip -n r1 route add default via 10.20.1.1; ip -n r1 route add default via fd00:2::1
ip -n r2 route add default via 10.20.2.1; ip -n r2 route add default via fd00:3::1
ip -n r2 route add 10.10.0.0/24 via 10.20.1.2; ip -n r2 route add fd00:1::/64 via fd00:2::2
ip -n r3 route add 10.0.0.0/8 via 10.20.2.2; ip -n r3 route add fd00::/16 via fd00:3::2
ip -n far route add default via 198.18.0.1; ip -n far route add default via fd00:9::1
for n in r1 r2 r3; do
  ip netns exec $n sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'
done
chain='add table inet f; add chain inet f forward { type filter hook forward priority 0; }; add rule inet f forward udp dport'
ip netns exec r3 nft "$chain 3478 drop"
ip netns exec r2 nft "$chain 3479 reject with icmpx type admin-prohibited"
exec "$@"
"#;

/// Runs `ccpgate` on the machine before the routers; none, with a notice, where namespaces can't be had.
pub(crate) fn behind_routers(config: &str, arguments: &[&str]) -> Option<Ran> {
    if !["unshare", "ip", "nft", "mount"].into_iter().all(have) {
        return None;
    }
    let possible = Command::new("unshare").args(["--net", "--mount", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no network namespace may be made here");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("unshare");
    super::command::clean(&mut command);
    command.args(["--net", "--mount", "sh", "-c", SCRIPT, "sh", env!("CARGO_BIN_EXE_ccpgate")]);
    command.args(arguments).arg("-c").arg(&file).current_dir(folder.path());
    Some(super::command::ended(command.stdin(Stdio::null()).output().unwrap()))
}
