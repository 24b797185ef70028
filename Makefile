# Thin: every target is one or two commands that can be typed by hand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help study test test-all soak schedules check site bench lock clean

help:            ## what there is
	@sed -n 's/^\([a-z-]*\): .*## /  make \1	/p' $(MAKEFILE_LIST)

study: $(VENV)/study   ## set up, and run a small study on MNIST
	@echo "== running studies/quickstart.yaml"
	@$(BIN)/tuner run-study studies/quickstart.yaml

test: $(VENV)/test     ## set up, and pass the quick tests, five to ten minutes on two cores
	@echo "== running the quick tests"
	@$(BIN)/pytest
	@echo "== passed; next: make study, or $(BIN)/tuner --help"

test-all: $(VENV)/test ## pass every test, the slow ones too
	@echo "== running every test"
	@$(BIN)/pytest -m ""

soak: $(VENV)/test     ## kill, cut, damage and delete at random for ten minutes; count what is lost
	@$(BIN)/python -m tests.faults.soak

schedules: $(VENV)/test ## generated schedules of whole studies on every core, for a minute
	@$(BIN)/python -m tests.driver.schedules

check: $(VENV)/test    ## format, lint, types, layers, documents
	@BIN=$(BIN) scripts/check

site: $(VENV)/test     ## the documentation as a site, in the folder site
	@BIN=$(BIN) scripts/site

bench: $(VENV)/test    ## the benchmarks' short forms, about a quarter of an hour
	@echo "== running the short form of every benchmark; docs/benchmarks.md has the full ones"
	@$(BIN)/python -m benchmarks.run

lock:                  ## renew the locks (needs uv)
	scripts/lock

clean:                 ## remove the environment, not the studies
	rm -rf $(VENV)

$(VENV)/study: requirements.lock pyproject.toml
	@scripts/install $(PYTHON) $(VENV) requirements.lock && touch $@

$(VENV)/test: requirements-dev.lock pyproject.toml
	@scripts/install $(PYTHON) $(VENV) requirements-dev.lock && touch $@ $(VENV)/study
