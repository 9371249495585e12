# Thin by intent: each target is one command that can be run by hand. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The packages are in source roots, not on the interpreter's path.
export PYTHONPATH := operator:serving:hack/cluster:hack:tests
# A Python of the system, never a downloaded one.
export UV_PYTHON_DOWNLOADS := never

UV = $$(hack/bootstrap.sh)
RUN = $(UV) run --no-sync
STAMP := .venv/.synced

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): uv.lock pyproject.toml
	@uv=$(UV); echo "installing the Python packages of uv.lock into .venv"; $$uv sync --quiet --frozen --all-extras
	@touch $@

.PHONY: setup
setup: $(STAMP) ## install uv and the Python packages of uv.lock into .venv

.PHONY: demo
demo: setup ## serve a model on a real cluster made here (or CONTEXT=… an existing one)
	@$(RUN) python -m demo up $(if $(CONTEXT),--context $(CONTEXT)) $(if $(IMAGES),--images $(IMAGES))

.PHONY: demo-down
demo-down: setup ## remove all that `make demo` made
	@$(RUN) python -m demo down $(if $(CONTEXT),--context $(CONTEXT)) $(if $(IMAGES),--images $(IMAGES))

.PHONY: test
test: lint unit formal ## everything that CI runs
	@# Both wait most of the time.
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=line contract integration
	@$(MAKE) --no-print-directory e2e

.PHONY: lint
lint: setup ## style, types, layers, and whether generated files are current
	@$(RUN) ruff check
	@$(RUN) ruff format --check
	@$(RUN) mypy
	@$(RUN) lint-imports
	@$(RUN) python hack/generate.py --check

.PHONY: unit
unit: setup ## pure tests and golden files
	@$(RUN) pytest --numprocesses auto tests/unit tests/golden

.PHONY: contract
contract: setup ## the real server process
	@$(RUN) pytest tests/contract tests/conformance

.PHONY: conformance
conformance: setup ## what Idempotency-Key promises, asked over HTTP of our own server (URL=… of any)
	@CONFORMANCE_URL=$(URL) $(RUN) pytest tests/conformance

.PHONY: formal
formal: setup ## the model of the exactly-once protocol, and that every mutant of it fails
	@$(RUN) python -m modelcheck

.PHONY: integration
integration: setup ## the operator, CRD and chart on a real API server (no root needed)
	@$(RUN) python -m devcluster build etcd kubernetes helm
	@$(RUN) pytest tests/integration

.PHONY: e2e
e2e: setup ## a real cluster with nodes (root)
	@$(RUN) python -m devcluster build
	@$(RUN) pytest tests/e2e

.PHONY: fuzz
fuzz: setup ## look for bodies that the decoders neither take nor refuse (SECONDS=60)
	@PYTHONPATH=serving $(UV) run --frozen --no-sync --with atheris==3.0.0 python tests/fuzz/decoders.py \
		-max_total_time=$(or $(SECONDS),60) -max_len=300

.PHONY: soak-drain
soak-drain: setup ## kill servers under load, over HTTP and gRPC (ROUNDS=1000 each)
	@DRAIN_ROUNDS=$(or $(ROUNDS),1000) $(RUN) pytest -s tests/contract/serving/test_drain.py \
		tests/contract/serving/test_grpc_drain.py -k no_call_is_lost

.PHONY: soak-once
soak-once: setup ## faults of servers, stores and networks under keys, and their counts (SECONDS=15 each)
	@FAULT_SECONDS=$(or $(SECONDS),15) $(RUN) pytest -s tests/contract/idempotency/test_faults.py

.PHONY: bench
bench: setup ## the server beside its limits, with keys, under overload, and its memory (BENCH=--quick or --full)
	@$(RUN) python -m benchmarks limits $(BENCH)

.PHONY: bench-peers
bench-peers: setup ## the server beside other model servers (BENCH=--quick or --full)
	@$(RUN) python -m benchmarks peers $(BENCH)

.PHONY: soak-memory
soak-memory: setup ## the server's memory under an unbroken load (SECONDS=600)
	@$(RUN) python -m benchmarks limits --only memory --memory-seconds $(or $(SECONDS),600)

.PHONY: bench-autoscaling
bench-autoscaling: setup ## the autoscaling policy beside others, on simulated loads
	@$(RUN) python -m benchmarks autoscaling

.PHONY: bench-operator
bench-operator: setup ## the operator with many ModelDeployments on a real API server (SIZES="100 300 1000")
	@$(RUN) python -m devcluster build etcd kubernetes helm
	@$(RUN) python -m benchmarks operator --sizes $(or $(SIZES),100 300 1000)

.PHONY: soak-rollouts
soak-rollouts: setup ## every kind of rollout on real nodes, each until it has met so many calls (CALLS=100000)
	@$(RUN) python -m devcluster build
	@ROLLOUT_CALLS=$(or $(CALLS),100000) $(RUN) pytest -s -x tests/e2e/test_rollouts.py

.PHONY: soak-gateway
soak-gateway: setup ## the same through a real Gateway, Traefik, whose weights are counted (CALLS=20000)
	@$(RUN) python -m devcluster build
	@ROLLOUT_CALLS=$(or $(CALLS),20000) $(RUN) pytest -s -x tests/gateway

.PHONY: soak-autoscaling
soak-autoscaling: setup ## a load that comes and goes, slowly enough that pods do too (PERIOD=300 seconds)
	@$(RUN) python -m devcluster build
	@WAVE_PERIOD=$(or $(PERIOD),300) $(RUN) pytest -s tests/e2e/test_autoscaling.py -k comes_and_goes

.PHONY: images
images: setup ## build the images as OCI archives and print their sizes
	@$(RUN) python -m images build

.PHONY: generate
generate: setup ## write the CRD, the chart's copy of it and the reference pages
	@$(RUN) python hack/generate.py

.PHONY: golden
golden: setup ## write the golden files from what comes out now
	@$(RUN) pytest tests/golden --update-golden

.PHONY: format
format: setup ## format the code
	@$(RUN) ruff check --fix
	@$(RUN) ruff format
