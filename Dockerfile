# Servable in a container, a drop-in for tensorflow/serving:
#
#   docker build -t servable .
#   docker run -t --rm -p 8501:8501 -v "$PWD/my_model:/models/my_model" -e MODEL_NAME=my_model servable
#
# The build argument ENGINES names the engines in the image: tensorflow, openvino, onnx, tflite, or several of
# these, separated by commas; keras is TensorFlow with its Python, which converts Keras files. STORES=s3 adds the packages
# by which base paths may be s3://….
#
# Each RUN that installs something is a step of deploy/install.sh.

ARG DEBIAN=trixie
ARG RUST_VERSION=1.95

# ---- the wheel, from the sources
FROM rust:${RUST_VERSION}-slim-${DEBIAN} AS wheel
WORKDIR /source
COPY deploy/install.sh deploy/
RUN deploy/install.sh wheel_tools
COPY pyproject.toml Cargo.toml Cargo.lock README.md LICENSE ./
COPY benches benches
COPY src src
COPY python python
RUN deploy/install.sh wheel

# ---- Servable and its engines' libraries, in /opt/servable
FROM debian:${DEBIAN}-slim AS packages
WORKDIR /source
COPY deploy/install.sh deploy/
RUN deploy/install.sh packages_tools
# Empty: the version in requirements/cpu.txt, with its hashes checked.
ARG TENSORFLOW_VERSION=
ARG ENGINES=tensorflow
ARG STORES=
COPY requirements/cpu.txt requirements/engines.txt requirements/s3.txt requirements/
RUN deploy/install.sh download
COPY --from=wheel /wheels /wheels
RUN deploy/install.sh servable

# ---- what runs
FROM debian:${DEBIAN}-slim
ENV MODEL_BASE_PATH=/models \
    MODEL_NAME=model \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_CACHE_HOME=/var/cache
COPY deploy/install.sh /tmp/
RUN /tmp/install.sh runtime && rm /tmp/install.sh
COPY --from=packages /opt/servable /opt/servable
COPY deploy/entrypoint.sh /usr/bin/tf_serving_entrypoint.sh
COPY deploy/healthcheck.py /usr/lib/servable/healthcheck.py
RUN tensorflow_model_server --version

ARG SERVABLE_VERSION=unknown
ARG SERVABLE_REVISION=unknown
LABEL org.opencontainers.image.title="Servable" \
      org.opencontainers.image.description="Serves SavedModels with TensorFlow Serving's REST and gRPC API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${SERVABLE_VERSION}" \
      org.opencontainers.image.revision="${SERVABLE_REVISION}"

# gRPC, REST
EXPOSE 8500 8501
# A number, so that Kubernetes can check runAsNonRoot.
USER 65532:65532
# SIGTERM: requests in flight finish, versions unload, exit 0. `docker stop` waits 10 s, Servable up to
# --shutdown_grace_seconds=30: give `docker stop --time` as much where requests are long.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["/opt/servable/bin/python", "-I", "/usr/lib/servable/healthcheck.py"]
ENTRYPOINT ["/usr/bin/tf_serving_entrypoint.sh"]
