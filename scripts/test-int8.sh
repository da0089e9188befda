#!/usr/bin/env bash
# Runs the tests of --engine_precision=int8, which need NNCF. `make test-int8` calls it.
# Arguments: the environment of the project, and the folder of the one with NNCF, made if missing.
set -euo pipefail
source scripts/environment_over.sh

project=$1
nncf=$2
environment_with "$project" "$nncf" requirements/int8.txt "NNCF in $nncf (250 MB; a few minutes, once)"

PYTHONPATH="$PWD/python" "$nncf/bin/python" -m pytest tests/e2e/test_precision.py tests/unit/test_precision.py
