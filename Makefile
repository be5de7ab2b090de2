# `make help` lists the targets. Needs make and Python 3.11 or newer, nothing else.

PYTHON    ?= python3
HOST      ?= 127.0.0.1
PORT      ?= 8000
GRPC_PORT ?= 8001
ARGS      ?=
UV        ?= uv

# onnxruntime reads this once, when it is first imported.
export ORT_DISABLE_TELEMETRY := 1

# --- Environments ----------------------------------------------------------------------------
# Each is current when it holds a stamp named after its locks and its interpreter, so a repeat
# costs nothing and a changed lock rebuilds it. pip and venv are all it takes.

SERVER_LOCKS := requirements/server.txt
CLIENT_LOCKS := requirements/client.txt
DEV_LOCKS    := $(SERVER_LOCKS) $(CLIENT_LOCKS) requirements/dev.txt
TRAIN_LOCKS  := $(DEV_LOCKS) requirements/train.txt
TORCH        := requirements/torch.txt
TRITON_LOCKS := requirements/triton.txt

INTERPRETER := $(shell $(PYTHON) -V 2>&1)
key = $(shell { echo "$(INTERPRETER)"; cat $(1); } | cksum | cut -d ' ' -f 1)
SERVER_READY := .venv/ready-$(call key,$(SERVER_LOCKS))
CLIENT_READY := .venv-client/ready-$(call key,$(CLIENT_LOCKS))
DEV_READY    := .venv-dev/ready-$(call key,$(DEV_LOCKS))
TRAIN_READY  := .venv-train/ready-$(call key,$(TRAIN_LOCKS) $(TORCH))
TRITON_READY := .venv-triton/ready-$(call key,$(TRITON_LOCKS))

# $(call create,folder,locks)
define create
	@command -v $(PYTHON) >/dev/null || { echo "Python; got no '$(PYTHON)'; expected 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Python; got %d.%d as $(PYTHON); expected 3.11 or newer: make PYTHON=..." % v[:2])'
	@echo "creating $(1) from $(2)"
	@rm -rf $(1)
	@$(PYTHON) -m venv $(1)
	@$(1)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes $(addprefix -r ,$(2))
endef

SERVER = .venv/bin/python -m server --host $(HOST) --port $(PORT) --grpc-port $(GRPC_PORT)
URL    = http://$(if $(filter 0.0.0.0,$(HOST)),127.0.0.1,$(HOST)):$(PORT)

.PHONY: help serve setup train-setup triton-setup triton demo monitor load test test-server coverage check lint types imports fuzz soak chaos hostile audit sbom format image lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(SERVER_READY): | $(SERVER_LOCKS)
	$(call create,.venv,$(SERVER_LOCKS))
	@touch $@

$(CLIENT_READY): | $(CLIENT_LOCKS)
	$(call create,.venv-client,$(CLIENT_LOCKS))
	@touch $@

$(DEV_READY): | $(DEV_LOCKS)
	$(call create,.venv-dev,$(DEV_LOCKS))
	@touch $@

$(TRAIN_READY): | $(TRAIN_LOCKS) $(TORCH)
	$(call create,.venv-train,$(TRAIN_LOCKS))
	@.venv-train/bin/python -m pip install --disable-pip-version-check -r $(TORCH)
	@.venv-train/bin/python -m pip check --disable-pip-version-check
	@touch $@

$(TRITON_READY): | $(TRITON_LOCKS)
	$(call create,.venv-triton,$(TRITON_LOCKS))
	@touch $@

setup: $(SERVER_READY) ## create the serving environment, .venv
	@echo ".venv is ready"

train-setup: $(TRAIN_READY) ## create the environment for training, export and all tests, .venv-train (torch)
	@echo ".venv-train is ready"

triton-setup: $(TRITON_READY) ## create the environment of a real Triton for tests and trials, .venv-triton (Linux)
	@echo ".venv-triton is ready"

# --- Serve -----------------------------------------------------------------------------------

serve: $(SERVER_READY) ## start the server (HOST, PORT, GRPC_PORT, ARGS)
	@exec $(SERVER) $(ARGS)

# A server that answers at PORT is used; else one is started for the duration.
define with_server
	@is_ready() { .venv/bin/python -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' $(URL)/readyz 2>/dev/null; }; \
	if ! is_ready; then \
		$(SERVER) --log-level warning & server=$$!; \
		trap 'kill $$server 2>/dev/null; wait $$server' EXIT; \
		until is_ready; do kill -0 $$server 2>/dev/null || exit 1; sleep 0.2; done; \
	fi; \
	.venv-client/bin/python -m $(1) --url $(URL) $(ARGS)
endef

demo: $(SERVER_READY) $(CLIENT_READY) ## ask about sample photos at several caps and print a table (PORT, ARGS)
	$(call with_server,loadtest.demo)

load: $(SERVER_READY) $(CLIENT_READY) ## load a server for 60 s, cap by cap, and say where the report lies (PORT, ARGS)
	$(call with_server,loadtest.open)

monitor: $(SERVER_READY) $(CLIENT_READY) ## watch a server under load with a real Prometheus, and ask it for every panel and rule
	@.venv-client/bin/python -m monitoring.check $(HARNESS_SERVER) $(ARGS)

# The pip package brings no native onnxruntime backend: tests/triton/backends stands in for it.
triton: $(TRITON_READY) ## serve model_repository/ with a real Triton: ports 8010 HTTP, 8011 gRPC, 8012 metrics (ARGS)
	@exec .venv-triton/bin/python deploy/triton/serve.py --backends tests/triton/backends $(ARGS)

# --- Check -----------------------------------------------------------------------------------

test: $(TRAIN_READY) ## run all tests (ARGS)
	@.venv-train/bin/python -m pytest $(ARGS)

test-server: $(DEV_READY) ## run the tests of the request path, without torch (ARGS)
	@.venv-dev/bin/python -m pytest tests/server tests/e2e $(wildcard tests/loadtest) $(ARGS)

coverage: $(TRAIN_READY) ## run all tests and report what they do not reach
	@.venv-train/bin/python -m pytest --cov $(ARGS)

check: lint types imports test ## all that CI runs

lint: $(TRAIN_READY)
	@.venv-train/bin/ruff check .
	@.venv-train/bin/ruff format --check .
	@.venv-train/bin/hadolint Dockerfile
	@.venv-train/bin/bandit --quiet --recursive --configfile pyproject.toml server adatape export loadtest

types: $(TRAIN_READY)
	@.venv-train/bin/mypy

imports: $(TRAIN_READY)
	@.venv-train/bin/lint-imports

audit: $(TRAIN_READY) ## look the locked packages up in a database of known vulnerabilities (ARGS)
	@.venv-train/bin/python requirements/audit.py $(ARGS)

sbom: $(TRAIN_READY) ## write what the image holds as a CycloneDX bill of materials, build/sbom.cdx.json
	@mkdir -p build
	@.venv-train/bin/cyclonedx-py requirements requirements/server.txt --output-reproducible --output-file build/sbom.cdx.json
	@echo "build/sbom.cdx.json is ready"

CASES    ?= 100000
DURATION ?= 600
RATE     ?= 30
HARNESS_SERVER = --server ".venv/bin/python -m server"
# A Triton is used where `make triton-setup` has made one.
HARNESS_TRITON = $(if $(wildcard $(TRITON_READY)),--triton ".venv-triton/bin/python deploy/triton/serve.py --backends tests/triton/backends")

fuzz: $(TRAIN_READY) ## fuzz every surface and decoder; ends in PASS or FAIL with its figures (CASES, ARGS)
	@.venv-train/bin/python -m tests.fuzz --cases $(CASES) $(ARGS)

soak: $(SERVER_READY) $(CLIENT_READY) ## mixed traffic for DURATION seconds at RATE calls a second, every request accounted for; ends in PASS or FAIL (ARGS)
	@.venv-client/bin/python -m loadtest.soak --duration $(DURATION) --rate $(RATE) $(HARNESS_SERVER) $(ARGS)

chaos: $(SERVER_READY) $(CLIENT_READY) ## play scripted faults, each with PASS or FAIL (ARGS)
	@.venv-client/bin/python -m loadtest.chaos $(HARNESS_SERVER) $(HARNESS_TRITON) $(ARGS)

hostile: $(SERVER_READY) $(CLIENT_READY) ## send hostile messages to every surface and measure how long each holds the event loop; ends in PASS or FAIL (ARGS)
	@.venv-client/bin/python -m loadtest.hostile $(HARNESS_SERVER) $(ARGS)

format: $(TRAIN_READY) ## format the code and mend what can be mended
	@.venv-train/bin/ruff format .
	@.venv-train/bin/ruff check --fix .

image: ## build the image, start it read-only and ask it; needs root, buildah, debootstrap and the network (ARGS)
	@$(PYTHON) deploy/image/check.py $(ARGS)

# --- Housekeeping ----------------------------------------------------------------------------

lock: ## rewrite requirements/*.txt from *.in at the newest versions (UV)
	@cd requirements && for name in server gpu client train dev triton; do \
		rm -f $$name.txt; \
		$(UV) pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
			--generate-hashes --no-strip-extras --no-emit-index-url --custom-compile-command "make lock" \
			$$(test $$name = gpu && echo --no-emit-package onnxruntime) $$name.in --output-file $$name.txt || exit 1; \
	done

clean: ## remove the environments and caches
	rm -rf .venv .venv-client .venv-dev .venv-train .venv-triton .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
