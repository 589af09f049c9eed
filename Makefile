# make ablations   the main job on the embedded dataset: the three ablations, table and curves
# make test        what a change can break, in minutes: all but the slow tests; ARGS=… for pytest
# make test-all    every test but test-targets
# make storm       random signals to small sweeps and to packing, for MINUTES=60: is anything lost?
# make test-targets  the network compiled for H100s and TPUs, without having one: installs XLA's compilers (6 GB;
#                  they make JAX on a CPU talk on stderr: VENV=.venv-targets keeps them apart)
# make claims      every claim of the paper beside what is recorded here: experiments/CLAIMS.md, .csv, .json
# make notebooks   runs the notebooks of experiments/ and stores their outputs, after a change of a cell, figure or record
# make bench       the benchmarks, this project beside PyTorch, and the tables of benchmarks/RESULTS.md: an hour or two
#                  on two cores that do nothing else; make bench-quick tries all of them on tiny networks
# make accelerator what this project does on the accelerator that JAX sees, in MINUTES=9, into OUT=runs/accelerator;
#                  again, and it resumes; ARGS=--quick rehearses it without one. With PYTHON, if given, else .venv
# make bare        does it run on a machine with few packages? PYTHON=python3.12, ARGS="--venv=… --cuts=…"; by hand or weekly
# make lint        ruff, mypy, and who may import whom (import-linter: pyproject.toml)
# Each other sets up .venv first, if needed. WORKDIR=…, PYTHON=python3.12 and DATA=… can be given.

PYTHON ?= python3
VENV ?= .venv
WORKDIR ?= runs/three
BIN := $(VENV)/bin
# Python compiles the modules that are imported; pip would compile all of them, more than half of its time.
INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile -c constraints.txt

.PHONY: ablations ablations-said accelerator bare claims notebooks test test-all storm test-targets bench bench-quick lint clean
.DELETE_ON_ERROR:

# A stamp is written last, so an interrupted installation is resumed.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; give another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) -e '.[dev]'
	@touch $@

# A prerequisite, so that it is printed before the installation.
ablations-said:
	@echo "ablations: 16 small networks, two at a time, each under a minute: six to seven minutes on two hardware threads,"
	@echo "after one or two for what $(VENV) lacks. Table and pictures in $(WORKDIR). Ctrl-C: the same command resumes."

ablations: ablations-said $(VENV)/installed
	$(BIN)/python -m experiments.run --sweep=configs/sweeps/three.py --workdir=$(WORKDIR)

claims: $(VENV)/installed
	$(BIN)/python -m experiments.claims --write

notebooks: $(VENV)/installed-dev
	$(BIN)/python tests/notebooks.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder -m 'not slow and not targets' $(ARGS)

test-all: $(VENV)/installed-dev
	$(BIN)/python -m pytest -n 2 --dist=loadfile --no-loadscope-reorder -m 'not targets' -rs $(ARGS)

MINUTES ?= 60
storm: $(VENV)/installed-dev
	$(BIN)/python tests/storm.py --minutes=$(MINUTES) $(ARGS)

$(VENV)/installed-targets: $(VENV)/installed-dev
	$(INSTALL) -e '.[dev,targets-cuda,targets-tpu]'
	@touch $@

test-targets: $(VENV)/installed-targets
	$(BIN)/python -m pytest tests/test_inspect_targets.py -rs $(ARGS)

$(VENV)/installed-bench: $(VENV)/installed
	$(INSTALL) -e '.[bench]'
	@touch $@

BENCHMARKS := full small epoch sweep cold_start growth profile importing

bench: $(VENV)/installed-bench
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --out=benchmarks/results/$$name.json || exit; done
	$(BIN)/python -m benchmarks.table

bench-quick: $(VENV)/installed-bench
	for name in $(BENCHMARKS) roofline; do $(BIN)/python -m benchmarks.$$name --quick || exit; done

OUT ?= runs/accelerator
accelerator: MINUTES := $(if $(filter file,$(origin MINUTES)),9,$(MINUTES))
accelerator:
	$(or $(if $(filter file,$(origin PYTHON)),$(wildcard $(BIN)/python)),$(PYTHON)) -m benchmarks.accelerator --minutes=$(MINUTES) --out=$(OUT) $(ARGS)

bare:
	$(PYTHON) tests/bare_machine.py --python=$(PYTHON) $(ARGS)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

clean:
	rm -rf $(VENV) build *.egg-info
