# make run        set up, then run the whole pipeline
# make test       set up, then every check: ruff, mypy, pytest
# make test-fast  the same without the slow tests
# make lock       make requirements.txt again from pyproject.toml
# make clean      remove what was set up and trained; the data stay in the per-user download cache

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
SETUP := $(BIN)/.installed

.PHONY: run test test-fast check setup lock clean

run: setup
	@python -m stages.run

test: check
	@python -m pytest

test-fast: check
	@python -m pytest -m "not slow"

check: setup
	@ruff check .
	@ruff format --check .
	@mypy

setup: $(SETUP)

# uv installs in seconds what takes pip minutes. It is bootstrapped by pip from the same hash-locked file.
$(SETUP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	awk '/^uv==/ {on=1} on; on && !/\\$$/ {exit}' requirements.txt > $(BIN)/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(BIN)/uv.txt
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.txt
	@touch $@

lock: setup
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header --no-emit-index-url \
	  --no-emit-find-links --extra dev --output-file requirements.txt pyproject.toml

clean:
	rm -rf .venv data models .dvc/cache .dvc/tmp .mypy_cache .pytest_cache .ruff_cache
