#!/usr/bin/env bash
# Runs real clients against a server: packages of Python, Node, Go and Java. `make test-clients` calls it.
# Arguments: the environment of the project, and the folder in which clients are installed, made if missing. What cannot be
# installed is said, and its tests are skipped.
set -uo pipefail
source scripts/environment_over.sh

project=$1
clients=$2
python="$clients/python/bin/python"
mkdir -p "$clients"

# Runs a step once: `once NAME COMMAND…`. In a shell of its own: some go to another folder.
once() {
  local name=$1
  shift
  [[ -e "$clients/.$name" ]] && return
  echo "==> $name"
  if ("$@") >"$clients/$name.log" 2>&1; then
    touch "$clients/.$name"
  else
    echo "==> $name could not be installed ($clients/$name.log): its tests are skipped"
  fi
}

pip_install() { "$python" -m pip install --quiet "$@"; }

# Each names every dependency of a server, and those of both do not go together: MLServer's are installed, and what KServe's
# client imports besides.
install_kserve() {
  pip_install --no-deps kserve || return 1
  pip_install 'cloudevents<2' 'python-dateutil<3' 'pandas<3' httpx kubernetes orjson prometheus-client psutil pydantic \
    pydantic-settings tabulate timing-asgi grpc-interceptor uvicorn watchfiles
}

install_node() {
  mkdir -p "$clients/node" && cp tests/clients/node/* "$clients/node/" \
    && (cd "$clients/node" && npm install --no-audit --no-fund --no-update-notifier)
}

install_go() {
  local protos
  protos=$(cd proto && pwd)
  pip_install grpcio-tools
  mkdir -p "$clients/go" && cp tests/clients/go/* "$clients/go/" && cd "$clients/go" || return 1
  GOBIN=$PWD/bin go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.5 || return 1
  GOBIN=$PWD/bin go install google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1 || return 1
  local package=servable/client/inference files=(inference/grpc_service.proto inference/model_config.proto)
  local map="Minference/grpc_service.proto=$package,Minference/model_config.proto=$package"
  PATH="$PWD/bin:$PATH" "$OLDPWD/$python" -m grpc_tools.protoc -I "$protos" --go_out=. --go-grpc_out=. \
    --go_opt="module=servable/client,$map" --go-grpc_opt="module=servable/client,$map" "${files[@]}" || return 1
  go get google.golang.org/grpc@v1.70.0 && go mod tidy && go build -o client .
}

install_java() {
  mkdir -p "$clients/java" && cp -r tests/clients/java/* "$clients/java/" \
    && mvn --batch-mode --quiet -f "$clients/java/pom.xml" "-Dprotos=$PWD/proto" package
}

[[ -x "$python" ]] || environment_over "$project" "$clients/python"
once tritonclient pip_install 'tritonclient[http,grpc]' aiohttp
# Older ones are empty; wheels of it are for glibc 2.38 and newer.
once perf_analyzer pip_install 'perf-analyzer>=2'
once ovmsclient pip_install --no-deps ovmsclient
once mlserver pip_install mlserver
once kserve install_kserve
once node install_node
once go install_go
once java install_java

# A process for each: the packages register messages of the same names, and each of them wants to be the only one.
failed=0
passed=0
for tests in tests/clients/test_*.py; do
  said="$clients/$(basename "$tests" .py).said"
  SERVABLE_CLIENTS="$clients" PYTHONPATH="$PWD/python${PYTHONPATH:+:$PYTHONPATH}" \
    "$python" -m pytest -q -p no:cacheprovider "$tests" "${@:3}" | tee "$said"
  # 5: a file that is skipped as a whole.
  status=${PIPESTATUS[0]}
  ((status == 0 || status == 5)) || failed=1
  grep -qE '(^|[ ,])[0-9]+ passed' "$said" && passed=1
done
if ((!passed && !failed)); then
  echo "==> nothing was tested: no client could be installed" >&2
  failed=1
fi
exit $failed
