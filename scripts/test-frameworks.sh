#!/usr/bin/env bash
# Runs a test with the frameworks whose models Servable does not take as they are. `make test-exports` (the code of
# docs/exporting.md) and `make test-conversions` (the lines of `servable inspect`) call it.
# Arguments: the environment of the project, the folder of the one with the frameworks, made if missing, and the test.
set -euo pipefail
source scripts/environment_over.sh

project=$1
frameworks=$2
tests=$3
python="$frameworks/bin/python"
# XGBoost without CUDA, which is imported by the same name.
packages=(jax orbax-checkpoint scikit-learn skl2onnx onnxscript lightgbm xgboost-cpu onnxmltools)

# Debian's python3-torch, where it is installed and the project runs in Debian's own Python (make PYTHON=/usr/bin/python3).
add_debians_torch() {
  local packages=/usr/lib/python3/dist-packages version='import sys; print(sys.version_info[:2])'
  [[ -d $packages/torch && $(/usr/bin/python3 -c "$version") == $("$python" -c "$version") ]] \
    && echo "$packages" >>"$(site_packages "$frameworks")/project.pth"
}

# From the index of builds without CUDA: the package on PyPI brings gigabytes of it.
install_torch() {
  "$python" -m pip install --quiet --retries 1 --timeout 15 torch --index-url https://download.pytorch.org/whl/cpu
}

if [[ ! -e "$frameworks/.done" ]]; then
  echo "==> ${packages[*]} and PyTorch in $frameworks (a few minutes, once)"
  [[ -x "$python" ]] || environment_over "$project" "$frameworks"
  "$python" -m pip install --quiet "${packages[@]}"
  if add_debians_torch || install_torch; then
    touch "$frameworks/.done"
  else
    echo "==> PyTorch's index of CPU builds does not answer: its part is skipped, and tried again next time"
  fi
fi

SERVABLE_SLOW_TESTS=1 PYTHONPATH="$PWD/python" "$python" -m pytest -rs "$tests"
