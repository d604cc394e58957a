# Everything a developer runs. Each target sets up what it needs in a virtual environment of its own.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTEST_ARGS ?=
# Most tests wait for processes, so more of them than there are cores run at a time; a file's tests stay together, and
# those that take long begin (tests/support/order.py).
PARALLEL := --numprocesses 3 --dist loadfile --no-loadscope-reorder
# All that users install.
EXTRAS := auto,backend,cli,crawlers,declarative,durable,encryption,fastapi-guard,patterns,postgresql,resources
# Under the LGPL, and no part of what is given out here: the extra postgresql has a user install it, SQLAlchemy imports
# it where a database's URL asks for it, and everybody can put another release in its place.
LGPL := psycopg psycopg-binary

.DEFAULT_GOAL := help
.PHONY: help setup check demo test coverage test-guard faults fuzz lint format docs tables wheel licences audit release test-versions test-extras test-lowest bench bench-parts bench-ingestion bench-postgresql bench-gate detection simulate redis-fleet rules-stream screenshots clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(INSTALLED): pyproject.toml setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

setup: $(INSTALLED)  ## Set up the environment and git's hooks
	$(BIN)/pre-commit install

check: lint test  ## Check all that a change has to pass; .ci/run checks more

.venv-demo/.installed: pyproject.toml setup.cfg
	@echo "- setting up .venv-demo with what a user installs: opentelemetry-guard[auto,backend,cli,fastapi-guard]"
	@$(PYTHON) -m venv .venv-demo
	@.venv-demo/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[auto,backend,cli,fastapi-guard]'
	@touch $@

demo: .venv-demo/.installed  ## Run a backend, instrumented services, attacks and a ban; KEEP=1 leaves them running
	@.venv-demo/bin/opentelemetry-guard demo $(if $(KEEP),--keep)

test: $(INSTALLED)  ## Run the whole test suite
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

coverage: $(INSTALLED)  ## Count lines and branches that quick tests cover, in rooms whose tests start no processes; fails under what there was
	$(BIN)/python -m pytest $(PARALLEL) -q --cov -m counted $(PYTEST_ARGS)

test-guard: $(INSTALLED)  ## Test with the oldest fastapi-guard, older releases of guard-core, and guard-agent installed
	$(BIN)/nox --sessions guard_oldest guard_core guard_with_agent

faults: $(INSTALLED)  ## Run the fault suite at full length, with its figures; CHAOS_SEED=1 replays a schedule
	FAULTS_SCALE=1 $(BIN)/python -m pytest -m faults -s $(PYTEST_ARGS)

fuzz: $(INSTALLED)  ## Run the fuzzers FUZZ_SCALE (20) times as long, from a new seed; FUZZ_SEED=20 replays one
	FUZZ_SCALE=$(or $(FUZZ_SCALE),20) FUZZ_SEED=$(or $(FUZZ_SEED),$(shell date +%s)) \
		$(BIN)/python -m pytest -m fuzz -s $(PYTEST_ARGS)

lint: $(INSTALLED)  ## Check style, types, the arrows between rooms, and spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(INSTALLED)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(INSTALLED)  ## Build the documentation site into site/; a link that leads nowhere fails
	$(BIN)/zensical build --strict --clean

tables: $(INSTALLED)  ## Write the tables of settings into the documents
	$(BIN)/python docs/tables.py

wheel: $(INSTALLED)  ## Build the wheel, list what is in it, install it into an empty environment and import it there
	rm -rf build dist .venv-wheel
	$(BIN)/python -m build --wheel --outdir dist .
	$(BIN)/python tests/support/wheel.py dist/*.whl
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python -m pip install --quiet dist/*.whl
	cd / && $(CURDIR)/.venv-wheel/bin/python -c "import opentelemetry_guard; print(opentelemetry_guard.__version__)"

licences: wheel  ## Check the licences of all that is installed with the wheel and its extras
	$(BIN)/python -m pip install --quiet 'pip-audit >= 2.8' 'pip-licenses >= 5'
	.venv-wheel/bin/python -m pip install --quiet "$$(echo dist/*.whl)[$(EXTRAS)]"
	$(BIN)/pip-licenses --python .venv-wheel/bin/python --partial-match --allow-only "$$(paste -sd ';' tests/licences.txt)" --ignore-packages $(LGPL)

audit: licences  ## Look for known vulnerabilities of the same packages; asks the index
	$(BIN)/python tests/support/audit.py .venv-wheel/lib/python3*/site-packages

release: licences  ## Build wheel, sdist and a bill of materials, and check them
	$(BIN)/python -m pip install --quiet --editable '.[release]'
	$(BIN)/python -m build --sdist --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --mc-type library --output-reproducible --output-file dist/opentelemetry-guard.cdx.json .venv-wheel

test-versions: $(INSTALLED)  ## Test with each CPython, redis-py and Redis server that the machine has
	$(BIN)/nox --sessions python redis_client redis_server

test-extras: $(INSTALLED)  ## Install the wheel alone and with each extra alone, and import what it is for
	ALL_EXTRAS=1 $(BIN)/python -m pytest tests/installed/test_extras.py $(PYTEST_ARGS)

test-lowest: ## Run the test suite with the lowest supported releases
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --upgrade pip
	.venv-lowest/bin/python -m pip install --quiet --editable '.[dev]' --constraint tests/lowest.txt
	.venv-lowest/bin/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

bench: ## Measure beside guard-agent, sentry-sdk and OTLP, and write docs/benchmarks.md; takes minutes, QUICK=1 is shorter
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --upgrade pip
	.venv-bench/bin/python -m pip install --quiet --editable . --requirement benchmarks/peer/requirements.txt
	.venv-bench/bin/python -m benchmarks.peer $(if $(QUICK),--quick)

bench-parts: $(INSTALLED)  ## Measure single parts; figures are ratios within one run
	$(BIN)/python -m benchmarks

bench-ingestion: $(INSTALLED)  ## Measure how many events a second the backend takes, on SQLite and on PostgreSQL
	$(BIN)/python -m benchmarks.ingestion

bench-postgresql: $(INSTALLED)  ## Look at every page with 10,000,000 events in PostgreSQL; EVENTS=1000000 is shorter
	$(BIN)/python -m benchmarks.postgresql $(or $(EVENTS),10000000)

bench-gate: $(INSTALLED)  ## Compare a few ratios with the last landed ones; fails where one has more than doubled
	$(BIN)/python -m benchmarks.gate

detection: $(INSTALLED)  ## Count what is found of generated attacks, and who of the innocent is accused; takes minutes
	$(BIN)/python -m benchmarks.detection

simulate: $(INSTALLED)  ## Simulate the recovery of a fleet of 10,000 agents; takes minutes, SEED=2 is another one
	$(BIN)/python -m benchmarks.fleet --seed $(or $(SEED),1)

redis-fleet: $(INSTALLED)  ## Drain 1,000,000 events with 50 processes on one Redis; ON=cluster or sentinel with a fail-over
	$(BIN)/python -m benchmarks.redis_fleet --on $(or $(ON),single)

rules-stream: $(INSTALLED)  ## Measure how soon a ban reaches 200 connected processes, and what a connection costs the backend
	$(BIN)/python -m benchmarks.rules_stream --processes $(or $(PROCESSES),200)

screenshots: $(INSTALLED)  ## Write pictures of the dashboard to docs/images; needs Chromium
	$(BIN)/python tests/dashboard/screenshots.py

clean:  ## Remove what the targets above have made
	rm -rf $(VENV) .nox .venv-bench .venv-demo .venv-wheel .venv-lowest build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
