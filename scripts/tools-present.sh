#!/usr/bin/env bash
# Reports the build tools that are missing, and how to get them.
set -u
python=${1:-python3}
missing=0
need() { # what, how
  printf 'missing: %s\n         %s\n' "$1" "$2" >&2
  missing=1
}
if ! command -v "$python" >/dev/null; then
  need "Python 3.10 or newer ($python)" "Debian, Ubuntu: apt-get install python3 python3-venv. Another one: make PYTHON=python3.12 …"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
  need "Python 3.10 or newer ($python is $("$python" -V 2>&1))" "Install a newer one and name it: make PYTHON=python3.12 …"
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  need "Python's venv module" "Debian, Ubuntu: apt-get install python3-venv"
fi
command -v cc >/dev/null || need "a C compiler (cc)" "Debian, Ubuntu: apt-get install gcc libc6-dev"
command -v cargo >/dev/null || need "a Rust toolchain (cargo)" "See rust-lang.org/tools/install, or apt-get install cargo where it is 1.89 or newer"
if command -v rustc >/dev/null; then
  minor=$(rustc --version | sed -E 's/^rustc 1\.([0-9]+).*/\1/')
  [ "$minor" -ge 89 ] || need "Rust 1.89 or newer ($(rustc --version))" "rustup update stable"
fi
exit $missing
