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

# ---- stage packages: the wheel and the engines' libraries → $home

packages_tools() {
  debian_packages python3 python3-venv binutils
}

# What servable imports, and the package of each of $ENGINES (names separated by commas or spaces), from the lock
# files with their hashes checked, or TensorFlow in the version requested. The dependencies of an engine's package
# are those of its Python code, of which nothing is kept. Those of a store's package, of $STORES, are all needed.
download() {
  local engine store stores=${STORES:-} name=tensorflow
  [ -n "${ENGINES//[, ]/}" ] || { echo 'no engine: ENGINES names one or several' >&2 && exit 2; }
  python3 -m venv /opt/pip
  download_locked cpu.txt protobuf
  for engine in ${ENGINES//,/ }; do
    case $engine in
      tensorflow)
        if [ "$(uname -m)" = x86_64 ]; then name=tensorflow-cpu; fi
        if [ -n "${TENSORFLOW_VERSION:-}" ]; then
          download_wheels "$name==$TENSORFLOW_VERSION"
        else
          download_locked cpu.txt "$name"
        fi
        ;;
      openvino) download_locked engines.txt openvino ;;
      onnx) download_locked engines.txt onnxruntime ;;
      tflite) download_locked engines.txt ai-edge-litert ;;
      keras) download_wheels --require-hashes -r "$here/../requirements/cpu.txt" ;;
      *) echo "no such engine: $engine; there are tensorflow, openvino, onnx, tflite and keras" >&2 && exit 2 ;;
    esac
  done
  for store in ${stores//,/ }; do
    case $store in
      s3) download_wheels --require-hashes -r "$here/../requirements/s3.txt" ;;
      *) echo "no such store: $store; there is s3" >&2 && exit 2 ;;
    esac
  done
}

download_locked() { # lock file, package
  awk -v name="$2" '/^[^ #]/ { split($0, part, "=="); wanted = part[1] == name } wanted && !/^ *#/' \
    "$here/../requirements/$1" >/tmp/locked.txt
  grep -q == /tmp/locked.txt || { echo "$1 has no $2" >&2 && exit 1; }
  download_wheels --require-hashes -r /tmp/locked.txt
}

download_wheels() { # what...
  /opt/pip/bin/pip download --quiet --no-cache-dir --no-deps --only-binary=:all: --dest "$downloads" "$@"
}

# servable in $home, and beside it the libraries that the server opens, with the licences of their packages. The
# rest of these packages is for programs that build models; without it the image is small.
servable() {
  local whole=/opt/whole wheel to engine library store stores=${STORES:-} packages=()
  for store in ${stores//,/ }; do packages+=(fsspec "${store}fs"); done
  python3 -m venv "$home"
  "$home/bin/pip" install --quiet --no-cache-dir --no-index --find-links "$downloads" /wheels/servable-*.whl \
    "${packages[@]}"
  # Keras files are converted with TensorFlow's Python: all of it, and nothing to be picked out.
  if [[ " ${ENGINES//,/ } " == *" keras "* ]]; then
    "$home/bin/pip" install --quiet --no-cache-dir --no-index --find-links "$downloads" --no-deps --require-hashes \
      -r "$here/../requirements/cpu.txt"
    rm -f "$downloads"/tensorflow*.whl
  fi
  to=$(site_packages "$home")
  for wheel in "$downloads"/*.whl; do
    case ${wheel##*/} in
      tensorflow*) engine=tensorflow ;;
      openvino*) engine=openvino ;;
      onnxruntime*) engine=onnx ;;
      ai_edge_litert*) engine=tflite ;;
      *) continue ;;
    esac
    /opt/pip/bin/pip install --quiet --no-deps --no-compile --target "$whole/$engine" "$wheel"
    (cd "$whole/$engine" && "libraries_of_$engine" | xargs cp -a --parents --target-directory="$to")
  done
  for library in "$to"/tensorflow/*.so.2; do [ ! -e "$library" ] || strip --strip-unneeded "$library"; done
  "$home/bin/python" -m pip uninstall --quiet --yes pip
  rm -rf "$whole" "$downloads"
}

libraries_of_tensorflow() {
  ls -d tensorflow/libtensorflow_{cc,framework}.so.2 tensorflow/THIRD_PARTY_NOTICES.txt tensorflow*.dist-info
}

# Of OpenVINO the CPU's plugin, and the front ends for its own format and for TensorFlow's. Not every wheel has hwloc.
libraries_of_openvino() {
  ls -d openvino/libs/libopenvino{_c,,_ir_frontend,_tensorflow_frontend}.so.* openvino/libs/libopenvino_*_cpu_plugin.so \
    openvino/libs/libtbb*.so.* openvino-*.dist-info &&
    shopt -s nullglob && printf '%s\n' openvino/libs/libhwloc*.so.*
}

libraries_of_onnx() {
  ls -d onnxruntime/capi/libonnxruntime*.so* onnxruntime/{LICENSE,ThirdPartyNotices.txt} onnxruntime-*.dist-info
}

# The core reads the version of LiteRT in __init__.py.
libraries_of_tflite() {
  ls -d ai_edge_litert/{libLiteRt.so,__init__.py} ai_edge_litert-*.dist-info
}

site_packages() {
  "$1/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
}

# ---- the last stage: the runtime

runtime() {
  # The certificates are for base paths and collectors over https.
  debian_packages python3 libstdc++6 ca-certificates
  # The server writes nowhere, so any other user will do. useradd would complain about the number.
  echo 'servable:x:65532:' >>/etc/group
  echo 'servable:x:65532:65532:Servable:/nonexistent:/usr/sbin/nologin' >>/etc/passwd
  mkdir -p "${MODEL_BASE_PATH:-/models}"
  # The cache: a volume that is mounted here is the server's, too. Other users are in group 0, as Docker and OpenShift
  # have it, unless they are given another.
  install -d -m 775 -o 65532 -g 0 /var/cache/servable
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
