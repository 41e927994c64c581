# make demo   see it work on its embedded sandbox    make test    every check and every test
# make quick  the checks' fast half: in process, under a minute   make check  lint, types, contracts, locks
# make bench  what it costs, as a table              make format  put the code into shape
# make fuzz   hostile input, EXAMPLES of each        make mutants which faults the unit tests miss
# make simulate   1,000 seeds of the simulator; SEEDS=5000 for more, SEED=7 replays one
# make planted    whether the simulator sees faults that are planted into the program
# make lock   renew the locks from pyproject.toml    make clean   remove what was made here
# make man    build the man page from the help of the commands; make schema: the JSON schema of config.toml
# make deb    the Debian package, into dist/          make image  the container image, by podman or buildah
# make soak   a long run with faults, MINUTES=30     make crashes kill it at every point, N=100 times more
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BENCH_ARGS ?=
MINUTES ?= 30
N ?= 100
SOAK_ARGS ?=
EXAMPLES ?= 5000
# Twice as many as cores: half of the time, a test waits for a process.
WORKERS ?= 4
# The modules whose mutants are tried, see tests/unit/MUTANTS.md.
ROOMS = audit.compare clients.halo.parse clients.stripe.parse clients.webhook_payload core.rules.blame core.rules.decisions core.errors \
    core.money core.payments core.reversals core.windows text.sanitize
RUN = .venv/bin
DEV = .venv-dev/bin
# The tests start Python hundreds of times: what is compiled once is kept.
unexport PYTHONDONTWRITEBYTECODE
INSTALL = install --quiet --disable-pip-version-check --no-deps --require-hashes

.PHONY: demo test unit compiled quick check bench soak crashes fuzz mutants format lock man schema deb image clean simulate simulate-fresh simulate-night simulate-coverage planted

CHECK_PYTHON = @$(or $(PYTHON),python3) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2> /dev/null \
    || { echo "Install Python 3.11 or newer with its venv module (Debian and Ubuntu: apt install python3-venv), then run make again." >&2; exit 1; }

.venv/installed: requirements.lock pyproject.toml
	$(CHECK_PYTHON)
	umask 022 && $(PYTHON) -m venv .venv && $(RUN)/python -m pip $(INSTALL) -r requirements.lock
	@printf '%s\n' '#!/bin/sh' 'PYTHONPATH="$(CURDIR)" exec "$(CURDIR)/.venv/bin/python" -m syncd "$$@"' > .venv/bin/syncd
	@chmod +x .venv/bin/syncd
	@touch $@

.venv-dev/installed: requirements-dev.lock pyproject.toml
	$(CHECK_PYTHON)
	umask 022 && $(PYTHON) -m venv .venv-dev && $(DEV)/python -m pip $(INSTALL) -r requirements-dev.lock
	umask 022 && $(DEV)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/installed
	$(RUN)/syncd demo

# The checks and the unit tests side by side, because each uses one core.
test: .venv-dev/installed
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target check unit compiled
	$(DEV)/pytest -n $(WORKERS) --dist worksteal --ignore tests/unit

# Measured: every line and branch of the pure modules is run.
unit: .venv-dev/installed
	$(DEV)/pytest --cov --cov-report=term tests/unit

# Compiles the tests once, before every worker would. A module that can't be loaded is reported by the tests.
compiled: .venv-dev/installed
	@$(DEV)/pytest --collect-only -qq --ignore tests/unit > /dev/null 2>&1 || true

# For every edit: the pure modules, the engine and the commands, in process.
QUICK = tests/unit tests/contract tests/test_engine.py tests/test_refunds.py tests/test_audit_report.py \
    tests/test_schema.py tests/test_telling.py

quick: .venv-dev/installed
	$(DEV)/pytest -n 2 --dist worksteal $(QUICK)

check: .venv-dev/installed
	$(DEV)/ruff format --check .
	$(DEV)/ruff check .
	$(DEV)/mypy
	$(DEV)/lint-imports
	$(DEV)/deptry .
	$(DEV)/python -m tests.locks

bench: .venv-dev/installed
	$(DEV)/python -m bench $(BENCH_ARGS)

soak: .venv-dev/installed
	$(DEV)/python -m bench.soak --minutes $(MINUTES) $(SOAK_ARGS)

# At every occurrence of every crash point, at N random moments, and with N power cuts.
crashes: .venv-dev/installed
	CRASHES=$(N) $(DEV)/pytest -n 2 --dist worksteal -rA tests/crash

# Random examples, many of them; a failing one is printed with what reproduces it.
fuzz: .venv-dev/installed
	FUZZ_EXAMPLES=$(EXAMPLES) $(DEV)/pytest -n auto tests/hostile

# Each module in a copy of its own, for the tool edits the files it mutates; only where its tests pass
# without a mutant. Half an hour on one core; -j2 uses two, mutants-core.windows is one of them.
mutants: $(ROOMS:%=mutants-%)

mutants-%: .venv-dev/installed
	rm -rf .mutants/$* && mkdir -p .mutants/$*/tests
	cp -r syncd pyproject.toml .mutants/$*/
	cp -r tests/__init__.py tests/freshness.py tests/unit .mutants/$*/tests/
	sed 's|MODULE|$(subst .,/,$*)|; s|TESTS|$(subst .,_,$*)|' tests/unit/mutants.toml > .mutants/$*/mutants.toml
	cd .mutants/$* && export PATH="$(CURDIR)/$(DEV):$$PATH" PYTHONDONTWRITEBYTECODE=1 \
	    && cosmic-ray baseline mutants.toml \
	    && cosmic-ray init mutants.toml session.sqlite \
	    && cr-filter-operators session.sqlite mutants.toml \
	    && cosmic-ray exec mutants.toml session.sqlite \
	    && cr-report --surviving-only --show-diff session.sqlite

# The order in which sets are walked is part of a replay.
simulate: export PYTHONHASHSEED = 0
simulate: .venv-dev/installed
	$(DEV)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000))

# Seeds that ever failed, then seeds derived from the commit that nobody has played.
simulate-fresh simulate-night: export PYTHONHASHSEED = 0
simulate-fresh: .venv-dev/installed
	$(DEV)/python -m tests.simulation --fresh --seeds $(or $(SEEDS),1000)

simulate-night: .venv-dev/installed
	$(DEV)/python -m tests.simulation --night

# Writes into docs/promises.md which pairs of fault, request and state stories never play.
simulate-coverage: export PYTHONHASHSEED = 0
simulate-coverage: .venv-dev/installed
	$(DEV)/python -m tests.simulation --coverage docs/promises.md --seeds $(or $(SEEDS),300)

planted: .venv-dev/installed
	$(DEV)/python -m tests.simulation --planted

format: .venv-dev/installed
	$(DEV)/ruff format .
	$(DEV)/ruff check --fix .

man: .venv-dev/installed
	$(DEV)/python -m docs.manpage > docs/syncd.8.new && mv docs/syncd.8.new docs/syncd.8

schema: .venv-dev/installed
	$(DEV)/python -m syncd config schema > docs/config.schema.json.new && mv docs/config.schema.json.new docs/config.schema.json

# The locks name packages, versions and hashes, and no index: any mirror will do. UPGRADE=1 takes the
# newest releases; otherwise only what pyproject.toml asks for changes.
COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header $(if $(UPGRADE),--upgrade) --extra build

lock: .venv-lock/bin/uv
	$(COMPILE) pyproject.toml -o requirements.lock
	$(COMPILE) --extra postgresql pyproject.toml -o requirements-postgresql.lock
	$(COMPILE) --extra dev pyproject.toml -o requirements-dev.lock

.venv-lock/bin/uv:
	$(CHECK_PYTHON)
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv

deb:
	packaging/build-deb

image:
	packaging/build-image

clean:
	rm -rf .venv .venv-dev .venv-lock build dist .mypy_cache .ruff_cache .hypothesis .coverage .mutants simulation-failures
