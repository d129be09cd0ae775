# make search   install, then the main job on the embedded default
# make demo     install, then the report of a simulated ablation: no training
# make test     install, then the test suite
# make check    install, then format, lint, types, tests
# make test-faults   install, then kill, starve and lock real studies, each for minutes

VENV   ?= .venv
PYTHON ?= python3
UV     := $(VENV)/bin/uv
RUN    := $(VENV)/bin/python

EVERY_CALL := tests/harness/tracking/test_mlflow_tracker.py::test_whatever_call_fails_the_same_command_again_completes_the_view

.PHONY: install search demo report ui test test-faults check format lint types pins clean
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# //p' Makefile

$(UV):
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check uv

# The stamp, not the folder, says that the installation finished.
# Compiled here, since every worker imports all of it: where bytecode is not kept (PYTHONDONTWRITEBYTECODE), torch,
# torch._dynamo and ray.tune take 10 s of a processor in every process instead of 3.
$(VENV)/installed: pyproject.toml constraints.txt | $(UV)
	VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(UV) pip install --quiet --compile-bytecode --constraints constraints.txt --editable '.[dev]'
	$(RUN) -m compileall -q harness sam2lora search_spaces ablations
	touch $@

install: $(VENV)/installed

search: install
	$(RUN) -m harness.search loss_weights

demo: install
	$(RUN) -m harness.demo

report: install
	$(RUN) -m harness.report loss_weights

ui: install
	$(RUN) -m harness.ui

test: install
	$(RUN) -m pytest

test-faults: install
	$(RUN) -m pytest -m "" tests/faults $(EVERY_CALL)

check: install format lint types test

format: install
	$(RUN) -m ruff format --check .

lint: install
	$(RUN) -m ruff check .

types: install
	$(RUN) -m mypy

pins: $(UV)
	$(UV) pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --extra dev \
		--output-file constraints.txt pyproject.toml

clean:
	rm -rf $(VENV) runs
