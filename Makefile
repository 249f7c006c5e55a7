# Everything a person does with a clone. Needs Python 3.11 or newer and make; the rest is set up below.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo dev test lint types tests prove breakages bench growth format lock audit clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*## "} {printf "  make %-9s %s\n", $$1, $$2}'

# The constraints file pins every package with its hashes; the project itself is added without looking further.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(READY)

setup: $(READY) ## Set up the virtual environment

demo: $(READY) ## Collect three model versions from the embedded stand-in, offline
	$(BIN)/civitai-pipeline demo

dev: $(READY) ## Open the Dagster UI on 127.0.0.1:3000; SANDBOX=1 runs it on the stand-in
	$(BIN)/civitai-pipeline dev $(if $(SANDBOX),--sandbox)

test: lint types tests ## Lint, check types, run the tests

lint: $(READY) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## Check types
	$(BIN)/mypy

tests: $(READY) ## Run the tests
	$(BIN)/pytest -n auto

SEED ?= 1

prove: $(READY) ## Run the long proofs and print their table; SEED=n draws other ones, ONLY="kill soak" chooses
	$(BIN)/python -m civitai_pipeline_tests.proofs --seed $(SEED) $(ONLY)

breakages: $(READY) ## Break the code on purpose, in a copy, and see each proof notice; ONLY="kill soak" chooses
	$(BIN)/python -m civitai_pipeline_tests.proofs.breakages $(ONLY)

bench: $(READY) ## Measure the tables of 100,000 made-up items, and of 1,000 more on 10,000 and 300,000
	$(BIN)/python -m civitai_pipeline_tests.bench

growth: $(READY) ## Measure how time, memory, files and the UI grow with items and with versions; takes half an hour
	$(BIN)/python -m civitai_pipeline_tests.bench.growth

format: $(READY) ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(READY) ## Resolve all packages anew into constraints.txt
	$(BIN)/python -m venv $(VENV)/lock
	$(VENV)/lock/bin/pip install --quiet pip-tools
	$(VENV)/lock/bin/pip-compile --quiet --upgrade --all-extras --generate-hashes --allow-unsafe --strip-extras \
		--no-annotate --no-header --no-emit-options \
		--all-build-deps --output-file constraints.txt pyproject.toml

# Neither tool is needed otherwise, so they get an environment of their own. --strict: a package that cannot be looked
# up is no package without flaws. What the scan knows to be harmless is in .secrets.baseline, without line numbers: with
# them the scan fails as soon as a line has moved. After a look at what is new, detect-secrets scan --slim \
# --exclude-files '^constraints\.txt$' --exclude-files '^\.secrets\.baseline$' > .secrets.baseline makes it anew.
audit: $(READY) ## Look for secrets in the files, and for known flaws of the packages, which needs a network
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check 'detect-secrets>=1.5,<2' 'pip-audit>=2.10,<3'
	git ls-files -z | xargs -0 $(VENV)/audit/bin/detect-secrets-hook --baseline .secrets.baseline
	$(VENV)/audit/bin/pip-audit --strict --require-hashes --disable-pip --requirement constraints.txt

clean: ## Remove what the targets made, but not data/ and .dagster/
	rm -rf $(VENV) .demo .sandbox .pytest_cache .mypy_cache .ruff_cache build *.egg-info
