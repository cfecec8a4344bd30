#!/usr/bin/env bash
# Makes a throw-away CA, a server certificate for the HTTPS-proxy listener, and, when asked, a
# client certificate. For trying things out: nobody should trust this CA outside a test.
set -euo pipefail

usage() {
    cat >&2 <<'USAGE'
usage: make-test-ca.sh [--out DIR] [--days N] [--client NAME] NAME...

  NAME           DNS names or IP addresses of the proxy, as its PAC file names them
  --client NAME  also make a client certificate with this common name (for tls.client_ca)
  --out DIR      where to write; default: the folder of this script
  --days N       life of the certificates; default 30

writes   test-ca.pem  proxy.pem  and with --client  client.pem      (certificates)
         test-ca.key  proxy.key  and with --client  client.key      (keys, mode 0600)

A CA that is already there is used again, so that a second run can add certificates. Any other
file that is already there is an error: this script overwrites nothing.
USAGE
    exit 2
}

out=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
days=30
client=
names=()
while [ $# -gt 0 ]; do
    case $1 in
    --out | --days | --client)
        [ $# -ge 2 ] || usage
        case $1 in
        --out) out=$2 ;;
        --days) days=$2 ;;
        --client) client=$2 ;;
        esac
        shift 2
        ;;
    -*) usage ;;
    *)
        names+=("$1")
        shift
        ;;
    esac
done
[ "${#names[@]}" -gt 0 ] || usage
[[ $days =~ ^[1-9][0-9]*$ ]] || { echo "make-test-ca: --days wants a whole number, got '$days'" >&2; exit 2; }

mkdir -p "$out"
targets=("$out/proxy.pem" "$out/proxy.key")
[ -z "$client" ] || targets+=("$out/client.pem" "$out/client.key")
if [ -e "$out/test-ca.pem" ] && [ -e "$out/test-ca.key" ]; then
    have_ca=1
else
    have_ca=
    targets+=("$out/test-ca.pem" "$out/test-ca.key")
fi
for file in "${targets[@]}"; do
    if [ -e "$file" ]; then
        echo "make-test-ca: $file exists; remove it first if it may go" >&2
        exit 1
    fi
done

# Keys are born 0600, not made so afterwards.
umask 077
new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

if [ -z "$have_ca" ]; then
    new_key "$out/test-ca.key"
    openssl req -x509 -new -key "$out/test-ca.key" -days "$days" -out "$out/test-ca.pem" \
        -subj "/CN=ccpgate throw-away test CA" \
        -addext "basicConstraints=critical,CA:true,pathlen:0" \
        -addext "keyUsage=critical,keyCertSign,cRLSign"
fi

# sign NAME SUBJECT USAGE [SAN]
sign() {
    local base=$out/$1 extensions
    extensions="basicConstraints=critical,CA:false
keyUsage=critical,digitalSignature
extendedKeyUsage=$3"
    [ -z "${4:-}" ] || extensions+="
subjectAltName=$4"
    new_key "$base.key"
    openssl req -new -key "$base.key" -subj "/CN=$2" |
        openssl x509 -req -CA "$out/test-ca.pem" -CAkey "$out/test-ca.key" -days "$days" \
            -set_serial "0x00$(openssl rand -hex 15)" -extfile <(printf '%s\n' "$extensions") \
            -out "$base.pem" 2>/dev/null
}

san=
for name in "${names[@]}"; do
    if [[ $name == *:* || $name =~ ^[0-9]+(\.[0-9]+){3}$ ]]; then kind=IP; else kind=DNS; fi
    san+="${san:+,}$kind:$name"
done

sign proxy "${names[0]}" serverAuth "$san"
[ -z "$client" ] || sign client "$client" clientAuth
chmod 644 "$out"/test-ca.pem "$out/proxy.pem"
[ -z "$client" ] || chmod 644 "$out/client.pem"

echo "make-test-ca: wrote ${targets[*]}"
echo "make-test-ca: tls.certificate = \"$out/proxy.pem\", tls.key = \"$out/proxy.key\""
