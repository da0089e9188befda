#!/usr/bin/env bash
# The image's entrypoint, with the contract of tensorflow/serving: one model from the environment, further
# flags from the command line (the later of two equal flags wins). exec, so that signals reach the server.
set -eu
exec tensorflow_model_server \
  --port=8500 \
  --rest_api_port=8501 \
  "--model_name=${MODEL_NAME:-model}" \
  "--model_base_path=${MODEL_BASE_PATH:-/models}/${MODEL_NAME:-model}" \
  "$@"
