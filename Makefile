# `make demo` and `make test` do all the set-up; nothing but Python >= 3.11 and make is needed before.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Without cached bytecode every start of Python compiles the libraries anew, which takes twice as long as importing them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test test-oldest test-newest lint types mutants torture docs clean constraints

install: $(INSTALLED)

$(BIN)/uv:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(shell sed -n 's/^uv==//p' constraints.txt)"

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	touch $@

demo: $(INSTALLED)
	$(BIN)/estitchup study --config configs/study/digits.yaml --repeats 2 --out demo

# Files of tests side by side, each process with one thread: with more they would be in each other's way.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The suite in an environment of its own, with the oldest or the newest versions that pyproject.toml allows. What these
# libraries deprecate among themselves is no error there.
test-oldest: RESOLUTION = lowest-direct
test-newest: RESOLUTION = highest
test-oldest test-newest: test-%: | $(BIN)/uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-$*
	$(BIN)/uv pip install --quiet --python .venv-$*/bin/python --resolution $(RESOLUTION) -e '.[dev]'
	.venv-$*/bin/python -m pytest -p no:cacheprovider -W default $(TESTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

mutants: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut results

# Attacks: damaged inputs, kills, pairs of commands, full disks, lost processes, numbers at their edges. About 25 minutes.
torture: $(INSTALLED)
	$(BIN)/python tests/torture $(PARTS)

docs: $(INSTALLED)
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

constraints: $(INSTALLED)
	$(BIN)/uv pip compile --universal --all-extras --upgrade --no-annotate --no-header pyproject.toml -o constraints.txt

clean:
	rm -rf $(VENV) .venv-oldest .venv-newest docs/_build demo mutants
