# make run         set up, then run the whole pipeline
# make model       add a model: make model NAME=model_3 ARCH=resnet
# make experiments list the experiments of this commit, with the columns that matter; OPTIONS=-A: of all commits
# make search      search for better hyperparameters, as search.yaml says; OPTIONS="--workers 4"
# make studies     run the studies of recipes by many trainings, those that changed; STUDIES=seeds: that one alone
# make report      write report.html from the results; OPTIONS="--markdown main": print what changed since main instead
# make card        write docs/model_card.md: data, parameters, figures and limits of the best model
# make explain     write explain.html: look inside the best model; OPTIONS="--model model_1 --image shirt.png"
# make lecture     run the walk-through and write it with its outputs, docs/walkthrough.ipynb
# make verify      clone the committed state, run it again from the raw files, compare byte by byte
# make bench       race the stages against the lecture's plain loop, and to an accuracy
# make test        set up, then every check: ruff, mypy, all tests but the slow ones of make faults
# make test-fast   the same without any slow tests
# make faults      kill, interrupt and fill the disk: is anything lost? ends with the table of docs/trust.md
# make coverage    the fast tests must cover 95 % of stages/
# make mutate      change the code that decides results, spot by spot: do the tests notice?
# make check-lock  does dvc.lock match the code, the parameters, the data and the committed results?
# make lock        make requirements.txt again from pyproject.toml, and versions.toml from it
# make setup       make .venv; TORCH=cpu: without CUDA, 1.9 GB instead of 6.5; TORCH=none: without torch, to write reports
# make clean       remove what was set up and trained; downloads stay in the user's cache

PYTHON ?= python3
BIN := .venv/bin
# In the order of tests/conftest.py, not by their number of tests: some of the longest files hold one test alone.
PYTEST := python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
SETUP := $(BIN)/.installed
CUDA := ^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: run model experiments search studies report card explain lecture verify bench test test-fast faults coverage mutate check check-lock lock setup clean

run: setup
	@python -m stages.commands.run

model: setup
	@python -m stages.commands.add_model "$(NAME)" "$(ARCH)"

# Parameters that differ, and how well each model does.
experiments: setup
	@dvc exp show $(OPTIONS) --only-changed --drop '(?!Experiment|State|best$$|models\..*\.accuracy$$|(seed|fetch|prepare|train|model_\d+|evaluate|compare|confusion)\b)'
	@python -m stages.commands.experiments $(OPTIONS)

search: setup
	@python -m stages.commands.search $(OPTIONS)

studies: setup
	@python -m stages.commands.studies $(STUDIES)

report: setup
	@python -m stages.commands.report $(OPTIONS)

card: setup
	@python -m stages.commands.card

explain: setup
	@python -m stages.commands.explain $(OPTIONS)

lecture: setup
	@python -m stages.commands.walkthrough

verify: setup
	@python -m stages.commands.verify

bench: setup
	@python -m tests.bench
	@python -m tests.bench_race

# The lecture's trainings take two threads each: beside other tests they would take three times as long.
test: check
	@python -m pytest tests/test_lecture_figures.py
	@$(PYTEST) -m "not (slow and fault)" --ignore tests/test_lecture_figures.py

test-fast: check
	@$(PYTEST) -m "not slow"

faults: setup
	@$(PYTEST) -m fault

coverage: setup
	@$(PYTEST) -m "not slow" --cov --cov-report=term

mutate: setup
	@python -m tests.mutation

check: setup
	@ruff check .
	@ruff format --check .
	@mypy

check-lock: setup
	@python -m stages.commands.verify --no-run
	@python -m stages.commands.card --check
	@echo "dvc.lock matches the code, the parameters, and the data and results that were looked at"

setup: $(SETUP)

# uv installs in seconds what takes pip minutes. It comes from the same hash-locked file as all the rest. Compiled at
# once, modules load in half the time: importing is most of what a stage without a training does.
#
# On Linux the torch of the lock is built for CUDA, and cannot be imported without those 4 GB. TORCH=cpu takes the same
# version from PyTorch's wheels for CPUs, whose place uv knows; they are other files, so their hashes are those that
# PyTorch lists for them, and all other packages keep those of the lock.
$(SETUP): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	@awk '/^uv==/ {on=1} on; on && !/\\$$/ {exit}' requirements.txt > .venv/uv.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.txt
	@awk '/^[^ ]/ {skip = "$(TORCH)" && /$(CUDA)/} !skip' requirements.txt > .venv/lock.txt
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes .venv/lock.txt
ifeq ($(TORCH),cpu)
	@grep -oE '^torch(vision)?==[^ ]+' requirements.txt > .venv/torch.in
	$(BIN)/uv pip compile --quiet --no-deps --generate-hashes --torch-backend cpu --python $(BIN)/python --output-file .venv/torch.txt .venv/torch.in
	$(BIN)/uv pip install --quiet --no-deps --compile-bytecode --require-hashes --torch-backend cpu --python $(BIN)/python --requirement .venv/torch.txt
endif
	@touch $@

lock: setup
	uv pip compile --quiet --universal --generate-hashes --fork-strategy fewest --python-version 3.11 --no-header --no-emit-index-url \
	  --no-emit-find-links --extra cluster --extra dev --output-file requirements.txt pyproject.toml
	@python -m stages.commands.lock_versions

clean:
	rm -rf .venv data models logs searches report.html explain.html .mutation .dvc/cache .dvc/tmp .mypy_cache .pytest_cache .ruff_cache
