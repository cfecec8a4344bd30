#!/usr/bin/env bash
# Installs what the tests need beyond cargo, from Debian's packages, and only what is missing.
# Safe to run again; works as root or with sudo. The tests that need a tool which isn't there
# are skipped with a notice, or fail where the environment has CI set.
set -euo pipefail

# command to look for, package that brings it
wanted=(
    "cc gcc"                  # aws-lc-rs and the JavaScript engine of the PAC tests build C
    "chromium chromium"       # the browser test
    "firefox-esr firefox-esr" # the same, for what is Firefox's own
    "promtool prometheus"     # checks /metrics and deploy/prometheus-alerts.yml
    "curl curl"               # the command that the README tells people to try
    "openssl openssl"         # certs/make-test-ca.sh
    "certutil libnss3-tools"  # puts a test CA into a browser profile
    "haproxy haproxy"         # two replicas behind a load balancer
    "squid squid"             # a parent proxy
    "python3 python3"         # an OpenSSL client that uses one TLS session many times
    "unshare util-linux"      # DNS tests with files and a port 53 of their own
    "prlimit util-linux"      # the test of file-descriptor exhaustion
    "systemctl systemd"       # the test of the units boots one,
    "systemd-nspawn systemd-container" # in a container of its own
    "nsenter util-linux"      # and gives it commands
    "ip iproute2"             # and addresses
    "nft nftables"            # loads the rules of ccpgate firewall,
    "iptables-restore iptables" # in both forms,
    "ipset ipset"             # with its sets
    "useradd passwd"          # and the user of deploy/README.md
    "groff groff-base"        # reads the man pages
    "lintian lintian"         # judges the package,
    "dpkg-shlibdeps dpkg-dev" # whose libraries this finds
    "pip3 python3-pip"        # and that brings the validator of the manifests for Kubernetes
    "shellcheck shellcheck"   # reads the scripts
    "g++ g++"                 # libFuzzer, for the fuzz targets
)
# Not in Debian: cargo builds them, a minute each on two cores.
cargo_deny=0.20.2
cargo_deb=3.8.0
# From PyPI, with the schemas of every version of Kubernetes in it, and a reader of YAML.
kubernetes_validate=1.37.0

missing=()
for pair in "${wanted[@]}"; do
    read -r tool package <<<"$pair"
    command -v "$tool" >/dev/null || missing+=("$package")
done
if ! command -v cargo-deny >/dev/null; then
    echo "install-test-tools: building cargo-deny"
    # Without git and without optimisation: it reads a lock file, and is built anew on each new machine.
    cargo install --quiet --locked --debug --no-default-features cargo-deny@"$cargo_deny"
fi
if ! command -v cargo-deb >/dev/null; then
    echo "install-test-tools: building cargo-deb"
    cargo install --quiet --locked --debug cargo-deb@"$cargo_deb"
fi
validator() {
    command -v kubernetes-validate >/dev/null && python3 -c 'import yaml' 2>/dev/null && return
    echo "install-test-tools: installing kubernetes-validate"
    # Debian guards its own Python against pip; an older pip doesn't know the word.
    PIP_BREAK_SYSTEM_PACKAGES=1 pip3 install --quiet --root-user-action ignore kubernetes-validate=="$kubernetes_validate"
}
if [ "${#missing[@]}" -eq 0 ]; then
    validator
    echo "install-test-tools: everything is there"
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "install-test-tools: need root or sudo to install: ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi

echo "install-test-tools: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
# Debian's prometheus package starts a server on port 9090; only its promtool is wanted.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
"${as_root[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null

for pair in "${wanted[@]}"; do
    read -r tool package <<<"$pair"
    command -v "$tool" >/dev/null || {
        echo "install-test-tools: package $package was installed but brought no $tool" >&2
        exit 1
    }
done
validator
