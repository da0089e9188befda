#!/usr/bin/env bash
# Builds the image's root file system and runs it, without a container engine; see test_image.py.
# Needs root on Debian or Ubuntu with debootstrap, and the package registries. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
for command in debootstrap unshare nsenter setpriv ip; do
  command -v "$command" >/dev/null || {
    echo "missing: $command. Debian, Ubuntu: apt-get install debootstrap util-linux iproute2" >&2
    exit 1
  }
done
[ "$(id -u)" = 0 ] || {
  echo "run as root: a root file system is made and entered" >&2
  exit 1
}
[ -n "${SERVABLE_WHEEL:-}" ] || make wheel
SERVABLE_TEST_CONTAINER=1 exec "${VENV:-.venv}/bin/python" -m pytest tests/container "$@"
