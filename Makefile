# Each target is a line that a person could type. `make help` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev reproduce adopt test test-gpu coverage check lint docs format lock wheels ops schema dvc survey publish pack restore clean

PYTHON ?= python3
STUDY ?= default
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# The recipes have them from the environment, as they are, whatever stands in them.
export PYTHON STUDY

GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
UNKNOWN := $(filter-out PYTHON STUDY INCOMPLETE FROM SHELL,$(GIVEN))
ifneq ($(UNKNOWN),)
$(error unknown: $(UNKNOWN:%=%=); expected STUDY=NAME, PYTHON=PROGRAM, INCOMPLETE=1 or FROM="A.zip B.zip")
endif
ifeq ($(strip $(STUDY)),)
$(error STUDY= is empty; expected the name of a study, or the path to its file)
endif

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## create .venv and install the locked packages

$(VENV)/.installed: requirements.lock pyproject.toml
	@"$$PYTHON" workflow/preflight.py
	"$$PYTHON" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 -r requirements.lock -e .
	@$(BIN)/python workflow/preflight.py --installed
	@touch $@

setup-dev: $(VENV)/.installed-dev ## the same, with what the tests and the linters need

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 -r requirements-dev.lock
	@touch $@

reproduce: setup ## run a study (STUDY=default) and print its table
	python workflow/alone.py --cores all --config "study=$$STUDY"
	@python -m pipelines.report --study "$$STUDY" --show

adopt: setup ## let Snakemake take over what dvc repro or dvc pull brought (STUDY=default)
	python -m pipelines.adopt --study "$$STUDY"

test: setup-dev ## all tests that need no GPU
	python -m pytest -n 2 --dist loadgroup -m "not gpu"

test-gpu: setup-dev ## the tests that need a GPU
	python -m pytest -m gpu

coverage: setup-dev ## the same tests, measured: what they enter of sar and pipelines
	rm -rf build/coverage
	python -m pytest -n 2 --dist loadgroup -m "not gpu" --cov --cov-report=term:skip-covered --cov-report=html

check: setup ## recompute every published table from the published runs
	python -m pipelines.publish --check

lint: setup-dev ## ruff, mypy, snakefmt, snakemake --lint, and that the locked packages fit together
	python -m pip check
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

publish: setup ## a study's report, metrics and receipts to reports/, its table to the pages (INCOMPLETE=1 while runs are missing)
	python -m pipelines.publish --study "$$STUDY" $(if $(INCOMPLETE),--incomplete)

pack: setup ## finished runs without weights, as archives of 15 MiB at most (STUDY=default)
	python -m pipelines.pack --study "$$STUDY"

restore: setup ## bring runs back from reports/, or from archives (STUDY=default FROM="a.zip b.zip")
	python -m pipelines.restore --study "$$STUDY" $(FROM)

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
	"$$PYTHON" -m venv build/lock
	build/lock/bin/pip install --quiet torch==2.13.0 -e '.[pipeline]'
	(sed -n '/^#/p' requirements.lock; build/lock/bin/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//') > build/requirements.lock
	build/lock/bin/pip install --quiet triton==3.7.1 -e '.[pipeline,dev,docs]' # what CUDA builds of that torch need
	(sed -n '/^[#-]/p' requirements-dev.lock; build/lock/bin/pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' | grep -vxFf build/requirements.lock) > build/requirements-dev.lock
	(sed -n '/^#/p' requirements-gpu.txt; awk -F== 'NR == FNR { named[$$1]; next } $$1 in named && !/^#/' requirements-gpu.txt build/requirements.lock build/requirements-dev.lock | LC_ALL=C sort) > build/requirements-gpu.txt
	mv build/requirements.lock build/requirements-dev.lock build/requirements-gpu.txt .

wheels: ## wheels for a GPU machine without a network, into build/wheels (PYTHON=python3.12, its version)
	rm -rf build/wheels
	"$$PYTHON" -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheels -r requirements-gpu.txt

clean: ## remove results and scratch of all studies (data, reports and .venv stay)
	rm -rf results work
