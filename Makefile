# Two commands matter: `make run` and `make test`. Everything is installed into .venv, nothing else
# of the system is touched.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := requirements.txt requirements-local.txt
SUDO := $(if $(filter 0,$(shell id -u)),,sudo )

export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test coverage faults heavy security scan corpus s3 machines bench chaos screenshots lint fmt lock

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/.run ## start i2i on this machine: http://127.0.0.1:8000 (PORT, DATA_DIR, ... as in README.md)
	@$(BIN)/python -m i2i.cli.run

test: $(VENV)/.test ## run the test suite on a throw-away PostgreSQL
	@$(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: $(VENV)/.test ## run the tests and show which lines they never reach
	@$(BIN)/python -m coverage run -m pytest -q $(ARGS)
	@$(BIN)/python -m coverage report --skip-covered --show-missing

faults: $(VENV)/.test ## kill a worker at each of its points in turn, freeze it, try every order of events; minutes
	@$(BIN)/python -m pytest -q -m heavy tests/faults $(ARGS)

heavy: $(VENV)/.test ## send fifty photos of 8 MB at once from a real browser, the server killed in the middle; 300 pictures as one ZIP; minutes (ARGS=--short: 12 and 40)
	@$(BIN)/python -m pytest -q -m heavy tests/heavy $(ARGS)

security: $(VENV)/.test ## try the 70 rows of the checklist on the running stack behind nginx; six minutes
	@PYTHONPATH=tests $(BIN)/python -m pytest -q -p rows -p no:randomly -m "not heavy" tests/security $(ARGS)

corpus: $(VENV)/corpus/.fetched ## feed the 1,000 pictures of Pillow's own tests to the running application; 47 MB are fetched once
	@$(BIN)/python -m pytest -q -m heavy tests/heavy/test_corpus.py $(ARGS)

s3: $(VENV)/.s3 ## hold the store to its contract on real S3 servers, which are installed into .venv
	@I2I_S3_BIN=$(CURDIR)/$(BIN) $(BIN)/python -m pytest -q -m s3 tests/gateways tests/web/test_bucket.py tests/cli/test_storage.py $(ARGS)

machines: $(VENV)/.s3 ## cut off webs and workers that stand on machines of their own, behind nginx, PgBouncer and a bucket; a minute
	@I2I_S3_BIN=$(CURDIR)/$(BIN) $(BIN)/python -m pytest -q -m machines tests/machines $(ARGS)

scan: $(VENV)/.test ## let wapiti and sqlmap try the running stack, each in a throw-away environment; half an hour
	@PYTHONPATH=.:tests $(BIN)/python tests/security/scan.py $(and $(MINUTES),--minutes $(MINUTES)) $(ARGS)

bench: $(VENV)/.test $(VENV)/peers/.installed ## measure what people and workers wait for, and what pages cost beside the same ones of Django and FastAPI
	@PYTHONPATH=.:tests $(BIN)/python tests/benchmarks/bench.py
	@PYTHONPATH=.:tests PEERS_PYTHON=$(CURDIR)/$(VENV)/peers/bin/python $(BIN)/python tests/benchmarks/pages.py
	@PYTHONPATH=.:tests $(BIN)/python tests/benchmarks/work.py

chaos: $(VENV)/.test ## kill everything at random for MINUTES=5, then check every promise about money
	@PYTHONPATH=.:tests:tests/faults $(BIN)/python tests/faults/chaos.py $(and $(MINUTES),--minutes $(MINUTES)) $(ARGS)

screenshots: $(VENV)/.test ## take docs/screenshot.png anew from the running application
	@PYTHONPATH=.:tests:tests/browser $(BIN)/python tests/browser/screenshots.py $(ARGS)

lint: $(VENV)/.test ## what CI insists on: style, format, types, layers
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: $(VENV)/.test ## repair style and format where a tool can
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

lock: $(VENV)/.test ## write requirements*.txt anew from requirements*.in
	@test -x $(BIN)/uv || $(BIN)/python -m pip --disable-pip-version-check install -q uv
	@for name in requirements requirements-local requirements-s3 requirements-metrics requirements-studio requirements-dev tests/s3_servers tests/benchmarks/peers/requirements; do \
	  echo "$$name.txt"; \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	    --no-annotate --no-header $$name.in -o $$name.txt || exit 1; \
	done

# The stamps stand for "this lock is installed"; a changed lock is newer than its stamp.

$(VENV)/.run: $(RUNTIME) | $(VENV)/.made
	@$(call install,$(RUNTIME))
	@touch $@

$(VENV)/.test: $(RUNTIME) requirements-dev.txt | $(VENV)/.made
	@$(call install,$(RUNTIME) requirements-dev.txt)
	@touch $@ $(VENV)/.run

# Pillow's source distribution, of the locked version; the lock has its hash too.
$(VENV)/corpus/.fetched: requirements.txt | $(VENV)/.test
	@rm -rf $(@D) && mkdir $(@D)
	@awk '/^pillow==/ {found = 1} found {print; if (!/\\$$/) exit}' requirements.txt >$(@D)/pillow.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip --disable-pip-version-check download -q --no-deps --no-binary pillow --require-hashes \
	  -d $(@D) -r $(@D)/pillow.txt

$(VENV)/.s3: requirements-s3.txt tests/s3_servers.txt | $(VENV)/.test
	@$(call install,requirements-s3.txt tests/s3_servers.txt)
	@touch $@

# Django and FastAPI, which the benchmark of pages measures, apart from ours.
$(VENV)/peers/.installed: tests/benchmarks/peers/requirements.txt | $(VENV)/.test
	@$(BIN)/python -m venv --clear $(@D)
	@echo "Installing $<"; $(@D)/bin/python -m pip --disable-pip-version-check --no-input install -q --require-hashes -r $<
	@touch $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Python 3.11 or newer is missing. Install it: $(SUDO)apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 run" >&2; exit 1; }
	@command -v uv >/dev/null || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "Python's venv module is missing. Install it: $(SUDO)apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV), once."
	@$(BIN)/python -c '' 2>/dev/null || { \
	  if command -v uv >/dev/null; then uv venv -q --clear --python "$$(command -v $(PYTHON))" $(VENV); \
	  else $(PYTHON) -m venv --clear $(VENV); fi; }
	@touch $@

# uv where there is one (16 times quicker), else pip; both check every hash.
define install
echo "Installing $(1)"; \
if command -v uv >/dev/null; then \
  uv pip install -q --require-hashes --python $(BIN)/python $(addprefix -r ,$(1)); \
else \
  { $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; } && \
  $(BIN)/python -m pip --disable-pip-version-check --no-input install -q --require-hashes $(addprefix -r ,$(1)); \
fi
endef
