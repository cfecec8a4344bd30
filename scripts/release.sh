#!/usr/bin/env bash
# Makes a release of the commit that is checked out: the program, its Debian package, what it is made of (SBOM),
# and checksums. Builds twice, from two fresh clones in two folders, and fails unless both give the same bytes; so
# anybody with the same toolchain can tell whether a published program is the one of this source. docs/release.md
# says how. Needs cargo-deb (scripts/install-test-tools.sh), and
#   cargo install --locked cargo-auditable@0.7.7 cargo-cyclonedx@0.5.9
#
# usage: scripts/release.sh [FOLDER]      default: target/dist
set -euo pipefail
cd "$(dirname "$0")/.."

dist=${1:-target/dist}
# Only a rehearsal of this script takes another one.
profile=${CCPGATE_RELEASE_PROFILE:-release}
for tool in cargo-deb cargo-auditable cargo-cyclonedx strip dpkg lintian; do
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
# The same for whoever builds it, as are file modes and the order of names.
umask 022
export LC_ALL=C TZ=UTC
unset CARGO_TARGET_DIR CARGO_BUILD_TARGET_DIR CARGO_BUILD_TARGET
# Sources are called the same wherever they are: the clone, cargo's folder, the toolchain's.
cargo_home=$(cd "${CARGO_HOME:-$HOME/.cargo}" && pwd -P)
toolchain=$(rustc --print sysroot)
output=$profile
[ "$profile" != dev ] || output=debug

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Makes everything from a clone in this folder. The later of two prefixes that fit is taken.
make_in() { # FOLDER
    git clone --quiet --no-hardlinks . "$1"
    (
        cd "$1"
        folder=$(pwd -P)
        export RUSTFLAGS="--remap-path-prefix=$toolchain=/usr/src/rust --remap-path-prefix=$cargo_home=/usr/src/cargo --remap-path-prefix=$folder=/usr/src/ccpgate"
        export CFLAGS="-ffile-prefix-map=$cargo_home=/usr/src/cargo -ffile-prefix-map=$folder=/usr/src/ccpgate"
        export CXXFLAGS="$CFLAGS"
        cargo auditable build --locked --profile "$profile" --bin ccpgate
        scripts/package.sh "target/$output/ccpgate" target/ccpgate.deb
        # What it is made of, without what only tests and build scripts use.
        cargo cyclonedx --quiet --format json --override-filename ccpgate-sbom --no-build-deps
        sed -i "s|file://$folder|file:///usr/src/ccpgate|g" ccpgate-sbom.json
    )
}
made=("target/$output/ccpgate" target/ccpgate.deb ccpgate-sbom.json)

# Names of different lengths, and one with a level more.
one=$work/one
other=$work/and/the-other
make_in "$one"
make_in "$other"
for file in "${made[@]}"; do
    cmp "$one/$file" "$other/$file" || {
        echo "release: two builds differ in $file: nothing is released" >&2
        exit 1
    }
    for path in "$work" "$cargo_home" "$toolchain"; do
        if grep -qaF "$path" "$one/$file"; then
            echo "release: $file names $path, a folder of this machine: nothing is released" >&2
            exit 1
        fi
    done
done

lintian --allow-root --fail-on error,warning "$one/target/ccpgate.deb"

version=$(cargo metadata --no-deps --format-version 1 --locked | sed -n 's/.*"name":"ccpgate","version":"\([^"]*\)".*/\1/p')
architecture=$(dpkg --print-architecture)
rm -rf "$dist"
mkdir -p "$dist"
install -m 0755 "$one/target/$output/ccpgate" "$dist/ccpgate-$version-linux-$architecture"
install -m 0644 "$one/target/ccpgate.deb" "$dist/ccpgate_$version-1_$architecture.deb"
install -m 0644 "$one/ccpgate-sbom.json" "$dist/ccpgate-$version.cdx.json"
(cd "$dist" && sha256sum -- * >SHA256SUMS)
echo "release: $dist, the same from two builds"
cat "$dist/SHA256SUMS"
