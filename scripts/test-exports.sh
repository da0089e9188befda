#!/usr/bin/env bash
# Runs the code of docs/exporting.md with every framework that it names. `make test-exports` calls it.
# Arguments: the environment of the project, and the folder of the one with the frameworks, made if missing.
set -euo pipefail

project=$1
frameworks=$2
python="$frameworks/bin/python"

if [[ ! -e "$frameworks/.done" ]]; then
  echo "==> JAX, scikit-learn and PyTorch in $frameworks (a few minutes, once)"
  "$project/bin/python" -m venv "$frameworks"
  # TensorFlow and the tests' packages are those of the project.
  "$project/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/project.pth"
  "$python" -m pip install --quiet --upgrade pip
  "$python" -m pip install --quiet jax scikit-learn skl2onnx
  # The index of builds without CUDA: the package on PyPI brings gigabytes of it.
  "$python" -m pip install --quiet --retries 1 --timeout 15 torch --index-url https://download.pytorch.org/whl/cpu \
    && "$python" -m pip install --quiet onnxscript \
    && touch "$frameworks/.done" \
    || echo "==> PyTorch's index of CPU builds does not answer: its part is skipped, and tried again next time"
fi

PYTHONPATH="$PWD/python" "$python" -m pytest tests/e2e/test_exporting.py
