# Environment, demo and checks. Everything runs as an ordinary user, and writes nothing
# outside this folder: caches that tools keep under the home folder go to .cache.

PYTHON ?= python3
VENV := .venv
# Written last, with the folder's own path: without it, or after a move, .venv is unusable.
STAMP := $(VENV)/.complete

export XDG_CACHE_HOME := $(CURDIR)/.cache
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Snakemake's jobs find the environment's python first, as in an activated environment.
ACTIVE := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"
# A file's tests share what they build, so a file stays on one worker.
PYTEST := $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help environment browser demo doctor status bench test test-fast lint clean distclean

help:
	@echo 'make demo         run the embedded default: no GPU, no downloads of data or weights'
	@echo 'make doctor       whether a run can begin here; CONFIG=config/mlperf.yaml for another one'
	@echo 'make status       how far the run in this folder is; from another shell'
	@echo 'make test         run the tests'
	@echo 'make browser      install what the tests of the page need beside a chromium'
	@echo 'make test-fast    run the tests that take less than a second each'
	@echo 'make bench        measure engines and scoring beside diffusers, on a GPU'
	@echo 'make lint         check workflow, formatting and types'
	@echo 'make environment  build $(VENV) from the lock files (the targets above do it themselves)'
	@echo 'make clean        remove results, resources (downloads too), micro, logs, benchmarks'
	@echo 'make distclean    clean, and remove $(VENV) and all caches'
	@echo
	@echo 'Another interpreter for $(VENV), 3.11 to 3.13: make environment PYTHON=python3.12'

environment: $(STAMP)
	@printf '%s\n' '$(CURDIR)/plugins' > \
	    "$$($(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/t2i.pth"

# A moved folder or a vanished interpreter leaves a stamp behind that is worth nothing.
ifneq ($(shell $(VENV)/bin/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

# A complete environment is brought up to changed lock files; anything else is rebuilt. The
# stamp is gone while packages are being installed, so an interrupted make starts over.
$(STAMP): requirements-torch.lock requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	    echo '$(PYTHON) is missing, or none of Python 3.11 to 3.13, which t2i-bench needs' >&2; \
	    echo '(for 3.14 two of the locked packages have no wheels). Name another one:' >&2; \
	    echo 'make environment PYTHON=/path/to/python3.12' >&2; \
	    exit 1; }
	@if $(VENV)/bin/python -c '' 2>/dev/null && [ "$$(cat $(STAMP) 2>/dev/null)" = '$(CURDIR)' ]; \
	then rm $(STAMP); \
	else \
	    echo 'Making $(VENV) with $(PYTHON)'; \
	    rm -f $(STAMP); \
	    $(PYTHON) -m venv --clear $(VENV) || { \
	        echo '$(PYTHON) cannot make virtual environments: it lacks its venv module' >&2; \
	        echo '(python3-venv on Debian and Ubuntu). Name a Python that has it:' >&2; \
	        echo 'make environment PYTHON=/path/to/python3' >&2; \
	        exit 1; }; \
	fi
	@echo 'Installing torch (some minutes the first time)'
	@$(VENV)/bin/python -m pip install \
	    --constraint requirements.lock --requirement requirements-torch.lock
	@echo 'Installing the packages of requirements.lock (some minutes the first time)'
	@$(VENV)/bin/python -m pip install --quiet --no-deps --requirement requirements.lock
	@printf '%s\n' '$(CURDIR)' > $(STAMP)
	@echo '$(VENV) is complete'

browser: environment
	@$(VENV)/bin/python -m pip install --quiet --no-deps --requirement requirements-browser.lock

demo: environment
	@$(ACTIVE) $(VENV)/bin/snakemake --cores all --logger t2i

doctor: environment
	@$(ACTIVE) $(VENV)/bin/python tools/doctor.py $(CONFIG)

status:
	@$(VENV)/bin/python tools/print_status.py

test: environment
	@$(ACTIVE) $(PYTEST)

test-fast: environment
	@$(ACTIVE) $(PYTEST) --fast

bench: environment
	@$(VENV)/bin/python bench/engine_speed.py --json bench-engines.json
	@$(VENV)/bin/python bench/scoring_speed.py --json bench-scoring.json

lint: environment
	$(ACTIVE) $(VENV)/bin/snakemake --lint
	$(ACTIVE) $(VENV)/bin/snakemake --lint --configfile config/training_micro.yaml
	$(VENV)/bin/snakefmt --check Snakefile rules
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	PYTHONPATH=scripts $(VENV)/bin/lint-imports

clean:
	rm -rf results resources micro logs benchmarks .snakemake

distclean: clean
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
