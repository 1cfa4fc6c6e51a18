# make demo runs the main job on the embedded world; make test checks the site and runs the tests. Both create .venv first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test site lint bench clean

$(BIN)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	touch $@

demo: $(BIN)/.ready
	$(BIN)/sacpo run recipes/demo.yaml

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
