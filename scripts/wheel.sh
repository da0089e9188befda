#!/usr/bin/env bash
# Builds the wheel and the sdist into build/wheels, and checks the wheel. `make wheel` calls it.
# Arguments: the Python to use, and the folder of an environment with maturin, zig and auditwheel, made if missing.
#
# zig links against an old glibc, wherever this runs, so that the wheel works on every Linux since 2014 (manylinux_2_17).
set -euo pipefail

python=$1
environment=$2
out=build/wheels
policy=${SERVABLE_MANYLINUX:-manylinux_2_17}
# Versions of pip's tag for the same policy.
[[ $policy == manylinux_2_17 ]] && alias_of=manylinux2014 || alias_of=$policy

if [[ ! -e "$environment/.done" || requirements/publish.txt -nt "$environment/.done" ]]; then
  echo "==> maturin, zig and auditwheel in $environment"
  "$python" -m venv "$environment"
  "$environment/bin/python" -m pip install --quiet --require-hashes -r requirements/publish.txt
  touch "$environment/.done"
fi
# shellcheck disable=SC1091
source "$environment/bin/activate"

rm -rf "$out/new"
maturin build --release --locked --zig --compatibility "$policy" --out "$out/new"
maturin sdist --out "$out/new"

wheel=$(ls "$out"/new/servable-*.whl)
said=$(auditwheel show "$wheel")
echo "$said"
grep -q -e "$policy" -e "$alias_of" <<<"$said" || {
  echo "auditwheel does not find $wheel to be $policy" >&2
  exit 1
}
"$environment/bin/python" scripts/check_distributions.py "$out"/new/servable-*.whl "$out"/new/servable-*.tar.gz
mv "$out"/new/* "$out"/
rmdir "$out/new"
echo "==> $(ls "$out"/servable-* | tr '\n' ' ')"
