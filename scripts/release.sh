#!/usr/bin/env bash
# Makes a release from a clean checkout: the program, its Debian package, what it is made of (SBOM), and checksums.
# Builds twice, in two folders, and fails unless both give the same bytes; so anybody with the same toolchain can
# tell whether a published program is the one of this source. Needs cargo-deb (scripts/install-test-tools.sh), and
#   cargo install --locked cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9
#
# usage: scripts/release.sh [FOLDER]      default: target/dist
set -euo pipefail
cd "$(dirname "$0")/.."

dist=${1:-target/dist}
# Only the test of this script takes another one.
profile=${CCPGATE_RELEASE_PROFILE:-release}
for tool in cargo-deb cargo-auditable cargo-cyclonedx; do
    command -v "$tool" >/dev/null || {
        echo "release: $tool is missing: see the head of this script" >&2
        exit 1
    }
done
if [ -n "$(git status --porcelain)" ]; then
    echo "release: the checkout has changes: commit them, since the program names its commit" >&2
    exit 1
fi

CCPGATE_COMMIT=$(git rev-parse --short=12 HEAD)
# Everything that has a time has that of the commit.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export CCPGATE_COMMIT SOURCE_DATE_EPOCH
export CARGO_INCREMENTAL=0
# Sources are called the same wherever they are: here, in cargo's folder, and what build scripts write.
cargo_home=${CARGO_HOME:-$HOME/.cargo}

build() { # FOLDER
    local here="$PWD" folder
    mkdir -p "$1"
    folder=$(cd "$1" && pwd)
    RUSTFLAGS="--remap-path-prefix=$folder=/usr/src/target --remap-path-prefix=$here=/usr/src/ccpgate --remap-path-prefix=$cargo_home=/usr/src/cargo" \
        CFLAGS="-ffile-prefix-map=$folder=/usr/src/target -ffile-prefix-map=$cargo_home=/usr/src/cargo" \
        cargo auditable build --locked --profile "$profile" --bin ccpgate --target-dir "$1"
}

rm -rf "$dist"
mkdir -p "$dist"
output=$profile
[ "$profile" != dev ] || output=debug
for run in one two; do
    build "target/release-$run"
    scripts/package.sh "target/release-$run/$output/ccpgate" "target/release-$run/ccpgate.deb"
done
for file in "$output/ccpgate" ccpgate.deb; do
    cmp "target/release-one/$file" "target/release-two/$file" || {
        echo "release: two builds differ in $file: nothing is released" >&2
        exit 1
    }
done

version=$(cargo metadata --no-deps --format-version 1 --locked | sed -n 's/.*"name":"ccpgate","version":"\([^"]*\)".*/\1/p')
architecture=$(dpkg --print-architecture)
install -m 0755 "target/release-one/$output/ccpgate" "$dist/ccpgate-$version-linux-$architecture"
install -m 0644 target/release-one/ccpgate.deb "$dist/ccpgate_$version-1_$architecture.deb"
# What it is made of, without what only tests and build scripts use.
cargo cyclonedx --quiet --format json --override-filename ccpgate-sbom --no-build-deps
mv ccpgate-sbom.json "$dist/ccpgate-$version.cdx.json"
(cd "$dist" && sha256sum -- * >SHA256SUMS)
echo "release: $dist, the same from two builds"
cat "$dist/SHA256SUMS"
