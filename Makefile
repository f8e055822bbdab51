# make run    installs into .venv, runs the whole pipeline and says where to look
# make lint   installs ruff and mypy, and runs them: style, format and types
# make docs   installs what builds the pages of docs/ as a site, and builds them into site/ (no network is needed to read them)
# make gallery   copies figures of the last `make run` into docs/gallery.md
# make test   installs and runs every test but the next two kinds
# make test-long   the slow tests: kills at random moments, several processes, the tutorial word by word
# make test-slurm   installs SLURM from Debian packages, starts two nodes of it on loopback, and runs the tests on it (needs root)
# All install only when pyproject.toml or envs/constraints.txt changed.
PYTHON ?= python3
VENV   := .venv
INSTALL := python -m pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt --editable
CORES  ?= all
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: run lint docs gallery test test-long test-slurm clean help

help:
	@sed -n '1,8p' Makefile

run: $(VENV)/.installed
	@snakemake --cores $(CORES)
	@echo && echo "Done. Open results/report.html in a browser." && echo "Posterior samples: results/<experiment>/posteriors/<observation>/<method>/seed-<s>/posterior.zarr"

lint: $(VENV)/.tests
	@$(INSTALL) '.[lint,test]'
	@ruff check pflow tests benchmarks docs/hooks docs/gallery.py
	@ruff format --check pflow tests benchmarks docs/hooks docs/gallery.py
	@mypy

docs: $(VENV)/.docs
	@NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict
	@echo "Done. Open site/index.html; its search needs a server: python -m http.server --directory site"

gallery: $(VENV)/.installed
	@python docs/gallery.py results

test: $(VENV)/.tests
	@python -m pytest -n 2 --dist worksteal --ignore=tests/slurm -m "not long" $(ARGS)

test-long: $(VENV)/.tests
	@python -m pytest -n 2 --dist loadscope --ignore=tests/slurm -m long $(ARGS)

test-slurm: $(VENV)/.slurm
	@{ command -v slurmctld && command -v slurmd && command -v munged && command -v sbatch; } > /dev/null || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge > /dev/null; } || \
	  echo "SLURM cannot be installed here: its tests are skipped"
	@python -m pytest -n 0 -rs tests/slurm $(ARGS)

$(VENV)/.docs: $(VENV)/.installed
	@$(INSTALL) '.[docs]'
	@touch $@

$(VENV)/.slurm: $(VENV)/.tests
	@$(INSTALL) '.[slurm,test]'
	@touch $@

$(VENV)/.installed: pyproject.toml envs/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pflow needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pflow and its pinned dependencies into $(VENV) (about a minute) ..."
	@$(INSTALL) .
	@touch $@

$(VENV)/.tests: $(VENV)/.installed
	@$(INSTALL) '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) results site .snakemake
