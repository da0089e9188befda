#!/usr/bin/env bash
# Runs the code of docs/exporting.md with every framework that it names. `make test-exports` calls it.
# Arguments: the environment of the project, and the folder of the one with the frameworks, made if missing.
set -euo pipefail
source scripts/environment_over.sh

project=$1
frameworks=$2
python="$frameworks/bin/python"

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
  echo "==> JAX, scikit-learn and PyTorch in $frameworks (a few minutes, once)"
  environment_over "$project" "$frameworks"
  "$python" -m pip install --quiet jax scikit-learn skl2onnx
  "$python" -m pip install --quiet onnxscript
  if add_debians_torch || install_torch; then
    touch "$frameworks/.done"
  else
    echo "==> PyTorch's index of CPU builds does not answer: its part is skipped, and tried again next time"
  fi
fi

PYTHONPATH="$PWD/python" "$python" -m pytest tests/e2e/test_exporting.py
