#!/usr/bin/env bash
# Steps that build the container image, one function each: `install.sh STEP`.
#
# The Dockerfile runs them, and so does tests/container, in a root file system without a container engine, so
# that what is tested is what is built. A step belongs to one stage of the Dockerfile and relies on that
# stage's earlier steps.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
home=${SERVABLE_HOME:-/opt/servable}          # where Servable is installed in the image
downloads=/tmp/downloads                      # Python packages with verified hashes
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

debian_packages() {
  apt-get update -qq
  apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends "$@"
  rm -rf /var/lib/apt/lists/* /var/cache/apt/*
}

# ---- stage wheel: Rust and the sources → /wheels/servable-*.whl

wheel_tools() { # the C compiler comes with the Rust image
  debian_packages python3 python3-venv
  python3 -m venv /opt/maturin
  /opt/maturin/bin/pip install --quiet --no-cache-dir 'maturin>=1.9.4,<2'
}

wheel() {
  /opt/maturin/bin/maturin build --release --locked --interpreter python3 --out /wheels
}

# ---- stage packages: the wheel and TensorFlow → $home

packages_tools() {
  debian_packages python3 python3-venv binutils
}

# TensorFlow and its dependencies, from the lock file or in the version requested.
download() {
  local wanted=(--require-hashes -r "$here/../requirements/cpu.txt")
  if [ -n "${TENSORFLOW_VERSION:-}" ]; then
    local name=tensorflow
    if [ "$(uname -m)" = x86_64 ]; then name=tensorflow-cpu; fi
    wanted=("$name==$TENSORFLOW_VERSION")
  fi
  python3 -m venv /opt/pip
  /opt/pip/bin/pip download --quiet --no-cache-dir --only-binary=:all: --dest "$downloads" "${wanted[@]}"
}

# servable[cpu] complete in a throw-away environment; servable alone in $home, with only the two libraries of
# TensorFlow that the server opens. That keeps the image small: the rest of the package, Keras and NumPy are
# for programs that build models.
servable() {
  local wheel whole=/opt/whole from to library
  wheel=$(echo /wheels/servable-*.whl)
  install_offline "$whole" --no-compile "$wheel[cpu]"
  install_offline "$home" "$wheel"
  from=$(site_packages "$whole") to=$(site_packages "$home")
  mkdir -p "$to/tensorflow"
  cp -a "$from"/tensorflow/libtensorflow_{cc,framework}.so.2 "$from/tensorflow/THIRD_PARTY_NOTICES.txt" "$to/tensorflow/"
  cp -a "$from"/tensorflow*.dist-info "$to/"
  for library in "$to"/tensorflow/*.so.2; do strip --strip-unneeded "$library"; done
  "$home/bin/python" -m pip uninstall --quiet --yes pip
  rm -rf "$whole" "$downloads"
}

install_offline() { # environment, what...
  local environment=$1
  shift
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet --no-cache-dir --no-index --find-links "$downloads" "$@"
}

site_packages() {
  "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# ---- the last stage: the runtime

runtime() {
  debian_packages python3 libstdc++6
  # The server writes nowhere, so any other user will do. useradd would complain about the number.
  echo 'servable:x:65532:' >>/etc/group
  echo 'servable:x:65532:65532:Servable:/nonexistent:/usr/sbin/nologin' >>/etc/passwd
  mkdir -p "${MODEL_BASE_PATH:-/models}"
  local command
  for command in servable tensorflow_model_server; do ln -s "$home/bin/$command" "/usr/bin/$command"; done
}

case ${1:-} in
  wheel_tools | wheel | packages_tools | download | servable | runtime) "$1" ;;
  *)
    echo "usage: install.sh wheel_tools|wheel|packages_tools|download|servable|runtime; got: ${1:-nothing}" >&2
    exit 2
    ;;
esac
