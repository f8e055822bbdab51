# make run    installs into .venv, runs the whole pipeline and says where to look
# make test   installs and runs every test
# Both install only when pyproject.toml or envs/constraints.txt changed.
PYTHON ?= python3
VENV   := .venv
CORES  ?= all
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: run test clean help

help:
	@sed -n '1,3p' Makefile

run: $(VENV)/.installed
	@snakemake --cores $(CORES)
	@echo && echo "Done. Open results/report.html in a browser." && echo "Posterior samples: results/<experiment>/posteriors/<observation>/<method>/seed-<s>/posterior.zarr"

test: $(VENV)/.installed
	@python -m pytest -n 2 --dist worksteal $(ARGS)

$(VENV)/.installed: pyproject.toml envs/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pflow needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pflow and its pinned dependencies into $(VENV) (about a minute) ..."
	@python -m pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt --editable '.[test]'
	@touch $@

clean:
	rm -rf $(VENV) results .snakemake
