# Every target sets up .venv first. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Waiting threads must sleep, not spin: on few cores two busy processes slow each other tenfold otherwise.
export OMP_WAIT_POLICY := PASSIVE
export GOMP_SPINCOUNT := 0

.PHONY: help demo test fuzz coverage mutants lint docs diorama diorama-forever diorama-forever-status clean

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

demo: $(VENV)/.installed ## Make a panorama in outputs/, the main job.
	$(BIN)/jointnet panorama "ocean reef" --width 2048 --out outputs --overwrite

# One process a core, one thread each: what files share is made once a process.
test: export OMP_NUM_THREADS := 1
test: $(VENV)/.installed-dev ## Run the tests.
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

# Child processes are not counted.
coverage: export OMP_NUM_THREADS := 1
coverage: $(VENV)/.installed-dev ## Run the tests and report the covered lines.
	$(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder --cov=jointnet_cli --cov-report=term:skip-covered

# Damaged files at every entrance, at random, until the minutes are over or one raises what nobody meant.
fuzz: export OMP_NUM_THREADS := 1
fuzz: export FUZZ_EXAMPLES := 300
fuzz: MINUTES = 10
fuzz: $(VENV)/.installed-dev ## Read damaged files of every kind for MINUTES.
	end=$$(($$(date +%s) + 60 * $(MINUTES))); \
	while [ $$(date +%s) -lt $$end ]; do $(BIN)/pytest -q -n auto -W ignore --show-capture=no tests/fuzz || exit 1; done

# Mutation tests (docs/reliability.md); a stopped run continues: make mutants MODULES="jointnet_cli/sampling/tiles.py"
mutants: export OMP_NUM_THREADS := 1
mutants: $(VENV)/.installed-dev ## Run mutation tests (docs/reliability.md): hours.
	$(BIN)/python tools/mutants.py run $(MODULES)

# The embedded model from nothing, within so many minutes of training: make diorama MINUTES=600 SCENES=20000
MINUTES ?= 600
SCENES ?= 20000
diorama: $(VENV)/.installed ## Train the embedded model from nothing (MINUTES, SCENES).
	$(BIN)/python tools/diorama/make.py --minutes $(MINUTES) --scenes $(SCENES) --out runs/diorama

# The embedded model trained on for days, beside other work: make diorama-forever OUT=~/diorama-forever
OUT ?= $(HOME)/diorama-forever
diorama-forever: $(VENV)/.installed ## Train the embedded model on for days, in the folder OUT.
	exec $(BIN)/python tools/diorama/forever.py --out $(OUT)

diorama-forever-status: $(VENV)/.installed ## Say how far that training is.
	$(BIN)/python tools/diorama/forever.py --out $(OUT) --status

lint: $(VENV)/.installed-dev ## Check style, types and the direction of imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# A broken link or anchor fails the build.
docs: $(VENV)/.installed ## Build the documentation site in site/.
	$(BIN)/pip install --quiet -c constraints.txt -e ".[docs]"
	PATH=$(BIN):$$PATH $(BIN)/zensical build --clean --strict

# torch comes first and alone: constraints.txt names the build the rest was tested with.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean: ## Remove .venv and everything that was made.
	rm -rf $(VENV) outputs mutants site .cache
