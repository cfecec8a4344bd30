#!/usr/bin/env bash
# Makes the Debian package from a binary that is built already: with its units, man pages, completions,
# documentation and example. Needs cargo-deb. Two runs with the same binary give the same bytes.
#
# usage: scripts/package.sh [BINARY [PACKAGE [OPTION OF CARGO DEB...]]]
set -euo pipefail
cd "$(dirname "$0")/.."

binary=${1:-target/release/ccpgate}
package=${2:-target/ccpgate.deb}
shift $(($# < 2 ? $# : 2))
[ -x "$binary" ] || {
    echo "package: no program at $binary: cargo build --release --locked" >&2
    exit 1
}
command -v cargo-deb >/dev/null || {
    echo "package: cargo-deb is missing: scripts/install-test-tools.sh" >&2
    exit 1
}

# The time of everything in the package: that of the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
doc=$root/usr/share/doc/ccpgate

install -D -m 0755 "$binary" "$root/usr/bin/ccpgate"
strip --strip-unneeded --remove-section=.comment "$root/usr/bin/ccpgate"
install -m 0755 deploy/ccpgate-upgrade "$root/usr/bin/"

# The unit of the row, with the paths of a package. Not ccpgate.service, which can't take turns: an upgrade would
# wait for the last call. And the socket as an example: its addresses are those of the configuration, and where it is
# there but off, an upgrade beside a drain would wait for it to start, which waits for the drain.
install -d "$root/lib/systemd/system" "$doc/examples"
for pair in ccpgate@.service:lib/systemd/system ccpgate.socket:usr/share/doc/ccpgate/examples; do
    unit=${pair%:*}
    sed -e 's|/usr/local/bin/ccpgate|/usr/bin/ccpgate|g' \
        -e 's|/usr/local/share/doc/ccpgate/|/usr/share/doc/ccpgate/deploy/|g' \
        "deploy/$unit" >"$root/${pair#*:}/$unit"
done
install -D -m 0644 deploy/debian/ccpgate.toml "$root/etc/ccpgate/ccpgate.toml"
install -D -m 0644 deploy/debian/lintian-overrides "$root/usr/share/lintian/overrides/ccpgate"
install -D -m 0644 deploy/debian/needrestart.conf "$root/etc/needrestart/conf.d/ccpgate.conf"

"$binary" generate man "$root/usr/share/man/man1" >/dev/null
gzip -9cn deploy/debian/ccpgate-upgrade.1 >"$root/usr/share/man/man1/ccpgate-upgrade.1.gz"
"$binary" generate completions "$root/completions" >/dev/null
install -D -m 0644 "$root/completions/ccpgate.bash" "$root/usr/share/bash-completion/completions/ccpgate"
install -D -m 0644 "$root/completions/_ccpgate" "$root/usr/share/zsh/vendor-completions/_ccpgate"
install -D -m 0644 "$root/completions/ccpgate.fish" "$root/usr/share/fish/vendor_completions.d/ccpgate.fish"
rm -r "$root/completions"

install -d "$doc/docs" "$doc/deploy" "$doc/certs" "$doc/examples"
gzip -9cn CHANGELOG.md >"$doc/changelog.gz"
install -m 0644 config/*.toml deploy/*.yml "$doc/examples/"
# Their links lead to where Debian has things.
for page in README.md docs/*.md deploy/README.md certs/README.md; do
    sed -e 's|(CHANGELOG.md)|(changelog.gz)|; s|(LICENSE)|(copyright)|; s|(\(\.\./\)*config/|(\1examples/|g' \
        -e 's#(\.\./deploy/\(haproxy\|kubernetes\|prometheus-alerts\)#(../examples/\1#g' "$page" >"$doc/$page"
done
for folder in haproxy kubernetes browser-policies grafana; do
    [ ! -d "deploy/$folder" ] || cp -r "deploy/$folder" "$doc/examples/"
done
version=$(cargo metadata --no-deps --format-version 1 --locked | sed -n 's/.*"name":"ccpgate","version":"\([^"]*\)".*/\1/p')
{
    printf 'ccpgate (%s-1) stable; urgency=medium\n\n  * See CHANGELOG.md.\n\n' "$version"
    printf ' -- The ccpgate maintainers <maintainers@ccpgate.example>  %s\n' "$(date -uRd "@$SOURCE_DATE_EPOCH")"
} >"$root/changelog"

rm -rf target/package
mkdir -p target
mv "$root" target/package
trap - EXIT
chmod 0755 target/package
cargo deb --locked --no-build --no-strip --quiet --output "$package" "$@"
echo "package: $package"
