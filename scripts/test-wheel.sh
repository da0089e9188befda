#!/usr/bin/env bash
# Installs the wheel of build/wheels as a user would, without the Rust toolchain, and has it name a photo.
# `make test-wheel` calls it. Arguments: the Python to use, and a folder for what is installed.
# SDIST=1: builds the sdist in a clean environment instead, which takes the toolchain and some minutes.
set -euo pipefail

python=$1
folder=$2
root=$PWD

one() {
  local found=("$root"/build/wheels/$1)
  if [[ ${#found[@]} != 1 || ! -e ${found[0]} ]]; then
    echo "build/wheels has not one $1: make clean wheel" >&2
    exit 1
  fi
  echo "${found[0]}"
}

rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
"$python" -m venv "$folder/env"

if [[ ${SDIST:-} == 1 ]]; then
  package=$(one 'servable-*.tar.gz')
  echo "==> building $(basename "$package")"
  # Out of the checkout, so that nothing of it is used.
  (cd "$folder" && env/bin/python -m pip wheel --quiet --no-deps --wheel-dir wheels "$package")
  package=$(ls "$folder"/wheels/servable-*.whl)
else
  package=$(one "servable-*$(uname -m).whl")
fi

echo "==> pip install $(basename "$package")[cpu]"
# Neither cargo nor anything else of the user's is found from here on.
export PATH="$folder/env/bin:/usr/bin:/bin" PYTHONPATH=
command -v cargo >/dev/null && [[ ${SDIST:-} != 1 ]] && echo "(cargo is in /usr/bin; it is not used)"
python -m pip install --quiet "$package[cpu]"
cd "$folder"
servable version

echo "==> a photo"
python "$root/examples/mobilenet_v2/export.py" models/mobilenet_v2/1
servable serve models/mobilenet_v2 --port=0 --rest_api_port=0 2>log &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
# Its ports may open before the model has loaded, on a slow machine: the line comes once it has.
for _ in $(seq 1800); do
  grep -q 'ready: 1 of 1 models' log && break
  kill -0 "$server" 2>/dev/null || break
  read -rt 0.1 <> <(:) || true
done
port=$(sed -n 's/.*HTTP\/REST API at:[^ ]*:\([0-9]*\) .*/\1/p' log | head -n 1)
answer=$(curl --silent --show-error --fail-with-body --data-binary "@$root/examples/mobilenet_v2/panda.jpg" \
  -H 'Content-Type: image/jpeg' "http://localhost:$port/v1/models/mobilenet_v2:predict") || { cat log >&2; exit 1; }
echo "$answer"
grep -q 'giant panda' <<<"$answer"
if [[ -d $root/python/servable/console/assets ]]; then
  curl --silent --show-error --fail-with-body "http://localhost:$port/" | grep -qi '<!doctype html'
  echo "==> the console is there"
fi
kill -TERM "$server"
wait "$server"
trap - EXIT
echo "==> it works"
