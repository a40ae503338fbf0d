#!/usr/bin/env bash
# Installs what building, running and testing Rillcast needs on Debian 12. Safe to run again: what is there is left alone.
#
#   scripts/setup.sh run     a C compiler, a Rust toolchain, the player page's packages
#   scripts/setup.sh test    all of that, and every real client that the tests start, and cargo-deny
#   scripts/setup.sh bench   all of `run`, and the peers that the benchmarks measure against
#   scripts/setup.sh soak    all of `run`, and what the soak publishes and watches with
#   scripts/setup.sh demo    ffmpeg, and a font for its clock
#
# Needs Debian's mirrors and the package registries of Rust and npm; as another user than root, sudo for the Debian packages.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-run}

say() { printf 'setup: %s\n' "$*"; }

deny_version=0.20.2
packages=(build-essential pkg-config ca-certificates curl git)
case $what in
    run) ;;
    test)
        packages+=(ffmpeg chromium nginx libnginx-mod-rtmp openssl prometheus
            gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
            gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
            obs-studio libgl1-mesa-dri xvfb fonts-dejavu-core procps python3 iproute2) ;;
    bench) packages+=(ffmpeg nginx libnginx-mod-rtmp nghttp2-client openssl python3 wrk) ;;
    soak) packages+=(ffmpeg python3 python3-h2) ;;
    demo) packages=(ffmpeg fonts-dejavu-core) ;;
    *) echo "usage: scripts/setup.sh run|test|bench|soak|demo" >&2; exit 2 ;;
esac
[ "$what" = demo ] || command -v node >/dev/null || packages+=(nodejs)
[ "$what" = demo ] || command -v npm >/dev/null || packages+=(npm)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
    say "Debian packages: ${missing[*]}"
    root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    "${root[@]}" apt-get update -qq
    # nginx is started by the benchmarks on a private port, and of prometheus only promtool is used: the packages' own services would
    # take ports 80 and 9090.
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
    "${root[@]}" chmod +x /usr/sbin/policy-rc.d
    trap '"${root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if [ "$what" = demo ]; then
    exit
fi
if ! command -v cargo >/dev/null && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    say "Rust toolchain (rustup, stable, in $HOME/.cargo)"
    curl --proto '=https' --tlsv1.2 -sSf https://static.rust-lang.org/rustup/rustup-init.sh | sh -s -- -y --profile minimal -c clippy -c rustfmt
fi

export PATH="$HOME/.cargo/bin:$PATH"
if ! cargo clippy --version >/dev/null 2>&1 || ! cargo fmt --version >/dev/null 2>&1; then
    say "clippy and rustfmt"
    rustup component add clippy rustfmt
fi

npm_install() { # folder
    if [ ! -e "$1/node_modules/.installed" ] || [ "$1/package-lock.json" -nt "$1/node_modules/.installed" ]; then
        say "npm packages in $1"
        (cd "$1" && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --loglevel=error)
        touch "$1/node_modules/.installed"
    fi
}
npm_install web
if [ "$what" = test ]; then
    npm_install tests/browser
    if ! cargo deny --version 2>/dev/null | grep -qF "$deny_version"; then
        # Two to three minutes on two cores; kept beside cargo, as the toolchain is, so that another clone need not build it again.
        say "cargo-deny $deny_version"
        cargo install cargo-deny --locked --force --version "$deny_version" --target-dir target/cargo-deny --quiet
        rm -rf target/cargo-deny
    fi
fi
say "ready for '$what'"
