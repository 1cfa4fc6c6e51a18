# make demo runs the main job on the embedded world; make test checks the site and runs the tests. Both create .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo experiments test site lint bench clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

demo: $(BIN)/.ready
	$(BIN)/sacpo run recipes/demo.yaml

# Each recipe of recipes/experiments on each seed; a finished run is not done again, and a recipe whose data or weights are not
# here is left out with a line that says so. Then the tables of docs/experiments.md.
SEEDS   ?= 1 2 3 4
MACHINE ?= this machine
experiments: $(BIN)/.ready
	$(BIN)/python scripts/run_experiments.py runs/experiments $(SEEDS)
	$(BIN)/python scripts/write_experiments.py runs/experiments "$(MACHINE)"
	$(BIN)/python scripts/write_experiment_answers.py runs/experiments "$(MACHINE)"
	$(BIN)/python scripts/write_experiment_text.py runs/experiments "$(MACHINE)"

test: site
	$(BIN)/python -m pytest -n 2 --dist loadfile tests

site: $(BIN)/.ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

lint: $(BIN)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(BIN)/.ready
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) runs
