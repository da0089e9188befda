#!/usr/bin/env bash
# Runs the tests on a Ray cluster of several nodes on this machine. `make test-ray` calls it.
# Arguments: the environment of the project, and the folder of the one with Ray, made if missing.
set -euo pipefail
source scripts/environment_over.sh

project=$1
ray=$2
environment_with "$project" "$ray" requirements/ray.txt "Ray in $ray (400 MB; a few minutes, once)"

export PYTHONPATH="$PWD/python" RAY_USAGE_STATS_ENABLED=0 SERVABLE_RAY_TESTS=1
# Nodes are started while clients ask by gRPC: what it does in children that are forked meanwhile can abort them.
export GRPC_ENABLE_FORK_SUPPORT=0
# Has Python compile what Ray's agents import: a raylet ends if they are not there 15 seconds after its start.
"$ray/bin/python" -c 'import ray.serve, ray.dashboard.agent'
"$ray/bin/python" -m pytest tests/ray
if [ -n "${CHAOS:-}" ]; then
  "$ray/bin/python" benches/chaos.py
fi
