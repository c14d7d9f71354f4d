# Each target is a line that a person could type. `make help` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev reproduce adopt test coverage check lint docs format lock ops schema dvc survey publish clean

PYTHON ?= python3
STUDY ?= default
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## create .venv and install the locked packages

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) workflow/preflight.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --no-deps -r requirements.lock -e .
	@$(BIN)/python workflow/preflight.py --installed
	@touch $@

setup-dev: $(VENV)/.installed-dev ## the same, with what the tests and the linters need

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --no-deps -r requirements-dev.lock
	@touch $@

reproduce: setup ## run a study (STUDY=default) and print its table
	python workflow/alone.py --cores all --config study=$(STUDY)
	@python -m pipelines.report --study $(STUDY) --show

adopt: setup ## let Snakemake take over what dvc repro or dvc pull brought (STUDY=default)
	python -m pipelines.adopt --study $(STUDY)

test: setup-dev ## all tests that need no GPU
	python -m pytest -n 2 --dist loadgroup -m "not gpu"

coverage: setup-dev ## the same tests, measured: what they enter of sar and pipelines
	rm -rf build/coverage
	python -m pytest -n 2 --dist loadgroup -m "not gpu" --cov --cov-report=term:skip-covered --cov-report=html

check: setup ## recompute every published table from the published runs
	python -m pipelines.publish --check

lint: setup-dev ## ruff, mypy, snakefmt and snakemake --lint
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow/rules
	snakemake --lint

docs: setup-dev ## the site, from docs/ into build/docs; a warning or a broken link fails
	python -m sphinx -W --keep-going -n -q -E -d build/doctrees docs build/docs

format: setup-dev ## rewrite the sources in the project's format
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow/rules

publish: setup ## copy a study's report, metrics and receipts to reports/, its table to README and docs
	python -m pipelines.publish --study $(STUDY)

schema: setup ## write params/schema/*.json from the parameter models
	python -m pipelines.study.json_schema

dvc: setup ## write the dvc.yaml files from params/
	python -m pipelines.drivers.dvc_yaml

survey: setup ## apply SAR to every packaged config; writes benchmarks/survey.csv
	python benchmarks/survey.py

ops: setup ## compile mmcv's ops (7 to 17 minutes on 2 cores)
	$(BIN)/python -m pip uninstall --quiet --yes onedl-mmcv
	MMCV_WITH_OPS=1 $(BIN)/python -m pip install --no-build-isolation --no-deps --no-cache-dir --no-binary onedl-mmcv "$$(grep '^onedl-mmcv==' requirements.lock)"
	$(BIN)/python -c "import mmcv.ops"

lock: ## resolve the newest versions that pyproject.toml allows into requirements*.lock
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet torch==2.13.0 -e .
	(sed -n '/^#/p' requirements.lock; build/lock/bin/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//') > build/requirements.lock
	build/lock/bin/pip install --quiet -e '.[dev,docs]'
	(sed -n '/^[#-]/p' requirements-dev.lock; build/lock/bin/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' | grep -vxFf build/requirements.lock) > build/requirements-dev.lock
	mv build/requirements.lock build/requirements-dev.lock .

clean: ## remove results and scratch of all studies (data, reports and .venv stay)
	rm -rf results work
