#!/usr/bin/env bash
# Builds the tools of `make test-kubernetes` into build/kubernetes/bin, at the versions of tools/*/go.mod: helm, kustomize,
# kubeconform, kwok, and a control plane. Needs Go 1.26, and of each only what is missing is built. The first time that
# takes a quarter of an hour on two cores, 7 GB of disk in Go's caches, and 4 GB of memory.
# Arguments: the tools to build; without any, all.
set -euo pipefail
cd "$(dirname "$0")"
bin=$(realpath -m "${SERVABLE_KUBERNETES_BIN:-../../build/kubernetes/bin}")
mkdir -p "$bin"
command -v go >/dev/null || { echo "missing: go, 1.26 or newer" >&2 && exit 1; }

# What Kubernetes' own build tells its programs: their version, by which Helm decides whether a chart is for this cluster.
version() { # name
  local release package
  [[ "$1" == cluster ]] || return 0
  release=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' go.mod)
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    echo "-X $package.gitVersion=$release -X $package.gitMajor=1 -X $package.gitMinor=$(cut -d. -f2 <<<"$release")"
  done | tr '\n' ' '
}

# Builds PACKAGE of the module in FOLDER as NAME, unless it was built of this go.mod.
build() { # name folder package
  local stamp
  stamp=$(find "tools/$2" -type f | sort | xargs cat | sha256sum)
  [[ -x "$bin/$1" && "$(cat "$bin/.$1" 2>/dev/null)" == "$stamp" ]] && return
  echo "==> building $1"
  (cd "tools/$2" && CGO_ENABLED=0 go build -p 2 -trimpath -ldflags="-s -w $(version "$1")" -o "$bin/$1.new" "$3")
  mv "$bin/$1.new" "$bin/$1"
  echo "$stamp" >"$bin/.$1"
}

# What kwok makes of nodes and pods: its own stages in which all goes well, and at once.
stages() {
  local kwok stage
  [[ "$bin/kwok.yaml" -nt "$bin/kwok" ]] && return
  kwok=$(cd tools/nodes && go mod download -json sigs.k8s.io/kwok | awk -F'"' '$2 == "Dir" { print $4 }')
  for stage in node/fast/node-initialize node/heartbeat-with-lease/node-heartbeat-with-lease pod/fast/pod-ready \
    pod/fast/pod-delete; do
    echo "---"
    cat "$kwok/kustomize/stage/$stage.yaml"
  done >"$bin/kwok.yaml.new"
  mv "$bin/kwok.yaml.new" "$bin/kwok.yaml"
}

for tool in "${@:-helm kustomize kubeconform cluster kwok}"; do
  for name in $tool; do
    case $name in
      helm) build helm cli helm.sh/helm/v3/cmd/helm ;;
      kustomize) build kustomize cli sigs.k8s.io/kustomize/kustomize/v5 ;;
      kubeconform) build kubeconform cli github.com/yannh/kubeconform/cmd/kubeconform ;;
      cluster) build cluster cluster . ;;
      kwok)
        build kwok nodes sigs.k8s.io/kwok/cmd/kwok
        stages
        ;;
      *) echo "no such tool: $name" >&2 && exit 2 ;;
    esac
  done
done
