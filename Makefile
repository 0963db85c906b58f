# Each target does its own set-up, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STORE ?= store
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-fast test-long mutants drills lint bench bench-gpu clean
.DELETE_ON_ERROR:

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] <= (3, 13)))' || \
		{ echo "muster needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip uninstall --quiet --disable-pip-version-check --yes muster 2>/dev/null  # its name until 0.1
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

# 8 members of 4 epochs on the embedded data set; a second time all of them are found in the store.
demo: $(VENV)/.installed
	$(BIN)/muster launch dreml --dataset glyphs --L 8 --epochs 4 --storage $(STORE)
	@echo "README.md has the same table; on another CPU model its last digits differ."

# Two at a time, a file's tests together, and the slow ones (the first folders) first: most of them wait for processes of
# a local head, one for each of the two.
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# What needs no cluster: while you work.
test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not long and not cluster"

# Whole clusters of several nodes, object stores, searches: run it before a release.
test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m long

# Small changes of the code that decides, one at a time: the quick tests must notice. CONTRIBUTING.md has its words.
mutants: $(VENV)/.installed-dev
	nice $(BIN)/python -m tests.mutants $(FILES) $(WORDS) $(if $(TESTS),--tests $(TESTS))

# Things are broken on purpose, each ten times in a row, or three where one takes long; ends with a table of what came of
# it. SOAK members are trained while their processes are killed; DRILL_TIMES=1 runs each once.
SOAK ?= 200
DRILL_TIMES ?= auto
drills: $(VENV)/.installed-dev
	@mkdir -p build && rm -f build/drills.jsonl
	$(BIN)/python -m pytest tests/drills -m drill --drill-times $(DRILL_TIMES) --soak-members $(SOAK) \
		--drill-table build/drills.jsonl

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	@for script in $(filter-out benchmarks/bench_gpu.py, $(wildcard benchmarks/bench_*.py)); do $(BIN)/python $$script || exit 1; done

# On a machine with a GPU; ten minutes. `--small` shows on a CPU that everything runs.
bench-gpu:
	@$(PYTHON) benchmarks/bench_gpu.py $(FLAGS)

clean:
	rm -rf $(VENV) build dist *.egg-info
