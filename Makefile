# Every command of the project is here. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# Most tests wait for a server most of the time. A file's tests stay together, with the servers that they share; files go in
# the order of tests/conftest.py.
PYTEST_FLAGS ?= -n 2 --dist loadfile --no-loadscope-reorder
CARGO_TEST := cargo test
CLIPPY_TARGETS ?= --all-targets
RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src -type f 2>/dev/null)

.PHONY: audit browser console fuzz fuzz-long help demo test core-tests test-rust test-python test-exports test-conversions test-int8 test-clients test-console test-prometheus test-kubernetes kubernetes test-fronts test-compose test-openapi test-docs test-ray test-wheel lint lint-core lint-python lint-workflows fmt bench rivals docs site proto client lock wheel release dev clean tools-present

help: ## List the targets.
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools-present: ## Say which of the needed tools is missing.
	@bash scripts/tools-present.sh "$(PYTHON)"

$(VENV)/.tools: requirements/dev.txt requirements/docs.txt requirements/cpu.txt requirements/engines.txt requirements/stubs.txt | tools-present
	@echo "==> Python environment in $(VENV): the engines and the development tools (a few minutes the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --progress-bar off --no-compile -r requirements/dev.txt -r requirements/docs.txt -r requirements/cpu.txt -r requirements/engines.txt | (grep -v -E '^(Requirement already|Collecting|  Using cached|  Downloading)' || true)
	@$(BIN)/python -m pip install --quiet --no-deps -r requirements/stubs.txt
	@touch $@

$(VENV)/.servable: $(VENV)/.tools $(RUST_SOURCES)
	@echo "==> Building Servable (the Rust core takes a few minutes the first time)"
	@source $(BIN)/activate && maturin develop --release --locked
	@touch $@

dev: $(VENV)/.servable ## Make the environment and build the package into it.

demo: dev ## Serve three example models and show a request to each. EXIT=1 stops after that.
	@$(BIN)/python examples/demo.py $(if $(EXIT),--exit) $(DEMO_FLAGS)

test: tools-present ## All tests and checks; two things are built, checked or run at a time.
	@$(MAKE) --no-print-directory -j2 dev lint-core core-tests lint-python browser
	@$(MAKE) --no-print-directory CARGO_TEST='cargo test --quiet' test-rust
	@$(MAKE) --no-print-directory test-python

test-rust: $(VENV)/.tools ## The core's tests; they build without Python, and run TensorFlow where it is installed.
	@eval "$$($(BIN)/python scripts/engine_libraries.py)"; $(CARGO_TEST) --locked --tests

# Beside the build of the package, which has a folder of its own; clippy's is the same, so it goes first.
core-tests: lint-core
	cargo test --locked --tests --no-run

browser:
	@bash scripts/browser.sh

test-python: dev browser ## The Python tests, end-to-end and conformance ones included, in two processes (PYTEST_FLAGS).
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

test-exports: dev ## The code of docs/exporting.md, with JAX, scikit-learn and PyTorch installed for it in build/frameworks.
	@bash scripts/test-frameworks.sh $(VENV) build/frameworks tests/e2e/test_exporting.py

test-conversions: dev ## The lines that `servable inspect` prints, with the frameworks in build/frameworks, and the project of `servable new`.
	@bash scripts/test-frameworks.sh $(VENV) build/frameworks tests/e2e/test_conversions.py

test-int8: dev ## The tests of --engine_precision=int8, with NNCF installed for them in build/int8.
	@bash scripts/test-int8.sh $(VENV) build/int8

test-clients: dev ## Published clients in Python, Go, Java and Node against a server, installed for it in build/clients.
	@bash scripts/test-clients.sh $(VENV) build/clients

test-console: dev browser ## The console: whether it is built from its sources, its unit tests, and every page in a real Chromium.
	@bash scripts/console.sh check
	SERVABLE_BROWSER_TESTS=all $(BIN)/python -m pytest -q tests/browser

test-prometheus: dev ## A real Prometheus against a server, by the dashboard and the alert rules of deploy/.
	@command -v prometheus promtool >/dev/null || { echo "needs prometheus and promtool: apt-get install prometheus"; exit 1; }
	$(BIN)/python -m pytest -q tests/unit/test_metrics_list.py tests/e2e/test_prometheus.py

test-kubernetes: dev ## The manifests of deploy/ by Helm, kustomize, kubeconform and a real control plane; needs Go and root.
	@bash tests/kubernetes/run.sh $(BIN)/python $(KUBERNETES_TESTS)

test-fronts: dev ## Envoy, NGINX and HAProxy of deploy/fronts with servers behind, as far as they are installed; Envoy for it in build/fronts.
	@bash scripts/test-fronts.sh $(VENV) build/fronts

test-compose: dev ## deploy/compose, up, under load, down; needs Docker. IMAGES=own: makes the images without a registry of them.
	@VENV=$(VENV) bash tests/compose/run.sh

test-openapi: dev ## The OpenAPI documents, with many more made-up requests (OPENAPI_EXAMPLES) than in test-python.
	OPENAPI_EXAMPLES=$(or $(OPENAPI_EXAMPLES),300) $(BIN)/python -m pytest -q --timeout=3000 tests/e2e/test_openapi.py tests/e2e/test_openapi_fuzzed.py

test-docs: dev ## Every command and program of the documents, as a reader would run them; `make test` has the quickest.
	SERVABLE_ALL_DOCS=1 $(BIN)/python -m pytest $(PYTEST_FLAGS) tests/docs

test-ray: dev ## Replicas and servers on a Ray cluster of several nodes on this machine, with Ray in build/ray. CHAOS=1: benches/chaos.py too.
	@bash scripts/test-ray.sh $(VENV) build/ray

test-wheel: ## The wheel of build/wheels in a new environment, without Rust, names a photo. SDIST=1: builds the sdist for that.
	@bash scripts/test-wheel.sh $(PYTHON) build/test-wheel

audit: ## Known vulnerabilities, licences and sources of the dependencies; says what could not be checked.
	@bash scripts/audit.sh $(VENV)

fuzz: ## Every decoder, with many changed examples each (FUZZ_RUNS); stable Rust is enough.
	FUZZ_RUNS=$(or $(FUZZ_RUNS),200000) cargo test --locked --release --test decoders -- --nocapture

fuzz-long: ## One decoder (TARGET=json_decode) or all with libFuzzer, until ended (FUZZ_FLAGS=-max_total_time=60); stable Rust is enough.
	@bash scripts/fuzz-long.sh $(or $(TARGET),json_decode) $(FUZZ_FLAGS)

lint: lint-core lint-python ## Formatting, clippy, ruff, mypy; whether what is generated is up to date.

lint-core:
	cargo fmt --check
	cargo clippy --locked $(CLIPPY_TARGETS) --features python -- -D warnings
	cargo run --quiet --locked --manifest-path proto/gen/Cargo.toml -- --check

lint-python: $(VENV)/.tools
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=python:benches:tests/e2e:tests/fronts $(BIN)/mypy --follow-imports=silent benches/*.py
	MYPYPATH=python:benches:benches/rivals:benches/rivals/servers $(BIN)/mypy benches/rivals/*.py benches/rivals/servers/*.py
	$(BIN)/python scripts/make_sync_client.py --check

lint-workflows: $(VENV)/.tools ## The workflows of .github by actionlint, built for it in build/tools; needs Go.
	GOBIN=$(CURDIR)/build/tools go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.7
	PATH="$(CURDIR)/build/tools:$$PATH" $(BIN)/python -m pytest -q tests/unit/test_workflows.py

fmt: $(VENV)/.tools ## Format everything.
	cargo fmt
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: dev ## The benchmarks: tables and JSON. With BENCH_FLAGS, benches/run.py alone.
	$(BIN)/python benches/run.py $(BENCH_FLAGS)
	$(if $(strip $(BENCH_FLAGS)),,$(BIN)/python benches/real.py)

rivals: dev ## What a Python user would pick instead, installed and measured beside Servable.
	$(BIN)/python benches/rivals/run.py $(RIVALS_FLAGS)

console: ## Build the console's page from console/ into the Python package; needs npm.
	@bash scripts/console.sh build

proto: ## Generate src/pb from proto/.
	cargo run --quiet --locked --manifest-path proto/gen/Cargo.toml

kubernetes: $(VENV)/.tools ## Make the kustomize base and its components of the Helm chart; needs Go.
	@bash tests/kubernetes/tools.sh helm
	@$(BIN)/python scripts/render_kubernetes.py

client: $(VENV)/.tools ## Generate the client from the one with await.
	$(BIN)/python scripts/make_sync_client.py

docs: dev ## Put the list of flags into the migration guide; make the list of metrics, the dashboard, the example of OpenAPI, the charts.
	@$(BIN)/python scripts/make_charts.py
	@$(BIN)/python scripts/make_metrics_page.py
	@$(BIN)/python scripts/make_dashboard.py
	@$(BIN)/python scripts/make_openapi_example.py
	@$(BIN)/python -c "from pathlib import Path; from servable.cli.usage import markdown_table; page = Path('docs/migrating.md'); head = page.read_text().partition('| Flag | Type |')[0]; page.write_text(head + markdown_table().rstrip() + '\n')"

site: $(VENV)/.tools ## Build the documentation's site into build/site; broken links, anchors and orphans are errors.
	PYTHONPATH=python $(BIN)/python -m mkdocs build --quiet --strict

lock: $(VENV)/.tools ## Pin the Python dependencies again.
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --no-header --generate-hashes --group tools -o requirements/dev.txt
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --no-header --generate-hashes --group docs -c requirements/dev.txt -o requirements/docs.txt
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --no-header --generate-hashes --group publish -c requirements/dev.txt -o requirements/publish.txt
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --no-header --generate-hashes --extra cpu pyproject.toml -o requirements/cpu.txt
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --no-header --generate-hashes --extra onnx --extra openvino --extra tflite -c requirements/cpu.txt -c requirements/constraints.txt pyproject.toml -o requirements/engines.txt
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --no-header --generate-hashes --group s3 -c requirements/dev.txt -o requirements/s3.txt
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --no-header --generate-hashes --group ray -c requirements/dev.txt -o requirements/ray.txt
	@# Pins of the engines where NNCF admits them: uv prefers what the file has already.
	cp requirements/engines.txt requirements/int8.txt
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.10 --no-header --generate-hashes --extra int8 pyproject.toml -o requirements/int8.txt

wheel: | tools-present ## Build the manylinux wheel and the sdist into build/wheels, and check them; its tools go to build/publish.
	@bash scripts/wheel.sh $(PYTHON) build/publish

release: ## Set the version, date the changelog, commit and tag: VERSION=1.2.3. DRY_RUN=1 shows it and changes nothing.
	@$(PYTHON) scripts/release.py $(VERSION) $(if $(DRY_RUN),--dry-run)

clean: ## Remove what was built.
	rm -rf target build $(VENV)/.servable
