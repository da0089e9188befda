#!/usr/bin/env bash
# Checks the manifests of deploy/kubernetes and deploy/kserve, and runs them: `make test-kubernetes` calls it.
# Builds its tools, then runs the tests in namespaces of their own, with a bridge for pods. Needs Go, root, iproute2.
# Arguments: the Python, and what is for pytest.
set -euo pipefail
cd "$(dirname "$0")/../.."
for command in go unshare setpriv ip; do
  command -v "$command" >/dev/null || {
    echo "missing: $command. Debian, Ubuntu: apt-get install golang util-linux iproute2 (Go has to be 1.26 or newer)" >&2
    exit 1
  }
done
[ "$(id -u)" = 0 ] || {
  echo "run as root: pods are processes in namespaces of their own" >&2
  exit 1
}
python=$(realpath -s "$1")
shift
export SERVABLE_KUBERNETES_BIN=${SERVABLE_KUBERNETES_BIN:-$PWD/build/kubernetes/bin}
export SERVABLE_KUBERNETES_SCHEMAS=${SERVABLE_KUBERNETES_SCHEMAS:-$PWD/build/kubernetes/schemas}
export SERVABLE_KUBERNETES_RUN=$PWD/build/kubernetes/run
export SERVABLE_KSERVE_STORAGE=$PWD/build/kubernetes/storage
bash tests/kubernetes/tools.sh
# KServe's storage initializer; what it needs for S3, the tests have.
[[ -d "$SERVABLE_KSERVE_STORAGE" ]] || "$python" -m pip install --quiet --no-deps --target "$SERVABLE_KSERVE_STORAGE" \
  kserve-storage==0.20.0
"$python" tests/kubernetes/openapi_schemas.py "$SERVABLE_KUBERNETES_SCHEMAS"
mkdir -p "$SERVABLE_KUBERNETES_RUN"
# The pods' roots are layers over this machine's, so they cannot be on its disk.
exec unshare --mount --net --propagation private bash -euc '
  mount -t tmpfs tmpfs "$SERVABLE_KUBERNETES_RUN"
  mount -t tmpfs tmpfs /run
  ip link set lo up
  ip link add pods type bridge
  ip link set pods up
  ip addr add 10.77.0.1/16 dev pods
  exec "$@"
' run "$python" -m pytest -p no:cacheprovider --timeout=600 "${@:-tests/kubernetes}"
