# The two commands of the README: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Waiting threads must sleep, not spin: on few cores two busy processes slow each other tenfold otherwise.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0

.PHONY: demo test mutants lint diorama diorama-forever diorama-forever-status clean

demo: $(VENV)/.installed
	$(BIN)/jointnet panorama "ocean reef" --width 2048 --out outputs --overwrite

# One process a core, one thread each: what files share is made once a process.
test: export OMP_NUM_THREADS := 1
test: $(VENV)/.installed-dev
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# Mutation tests (docs/reliability.md); a stopped run continues: make mutants MODULES="jointnet_cli/sampling/tiles.py"
mutants: export OMP_NUM_THREADS := 1
mutants: $(VENV)/.installed-dev
	$(BIN)/python tools/mutants.py run $(MODULES)

# The embedded model from nothing, within so many minutes of training: make diorama MINUTES=600 SCENES=20000
MINUTES ?= 600
SCENES ?= 20000
diorama: $(VENV)/.installed
	$(BIN)/python recipes/diorama/make.py --minutes $(MINUTES) --scenes $(SCENES) --out runs/diorama

# The embedded model trained on for days, beside other work: make diorama-forever OUT=~/diorama-forever
OUT ?= $(HOME)/diorama-forever
diorama-forever: $(VENV)/.installed
	exec $(BIN)/python recipes/diorama/forever.py --out $(OUT)

diorama-forever-status: $(VENV)/.installed
	$(BIN)/python recipes/diorama/forever.py --out $(OUT) --status

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy jointnet_cli
	$(BIN)/lint-imports --no-cache

# torch comes first and alone: constraints.txt names the build the rest was tested with.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) outputs mutants
