#!/usr/bin/env bash
# Brings deploy/compose up, and tests it: `make test-compose` calls it. Arguments go to pytest.
#
# IMAGES=official (the default) pulls and builds images as users do. IMAGES=own makes them without a registry of images, of
# the wheel in $SERVABLE_WHEEL (`make wheel`), in build/compose; there is no Grafana among them. Needs a Docker daemon.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${VENV:-.venv}/bin/python

docker info >/dev/null 2>&1 || {
  echo "there is no Docker daemon. As root, on Debian: apt-get install docker.io docker-compose; dockerd &" >&2
  exit 1
}
if docker compose version >/dev/null 2>&1; then
  compose="docker compose"
elif command -v docker-compose >/dev/null; then
  compose=docker-compose
else
  echo "there is neither 'docker compose' nor docker-compose" >&2
  exit 1
fi

files="-f deploy/compose/compose.yaml"
if [[ ${IMAGES:-official} == own ]]; then
  wheel=${SERVABLE_WHEEL:-$(ls build/wheels/servable-*.whl 2>/dev/null | tail -1)}
  [[ -n $wheel ]] || { echo "there is no wheel: make wheel, or set SERVABLE_WHEEL" >&2; exit 1; }
  "$python" tests/compose/images.py "$wheel" build/compose
  files="$files -f tests/compose/override.yaml"
else
  $compose $files build
fi
SERVABLE_COMPOSE="$compose $files -p servable-test" exec "$python" -m pytest -rA -q tests/compose "$@"
