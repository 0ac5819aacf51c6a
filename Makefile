# The front door. `make up` and `make test` are all that a first look needs.
SHELL := /bin/sh
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
UV := .venv/bin/uv
# Debian's packages that the tests call beside what the platform itself needs.
TEST_PACKAGES := postgresql-15 pgbouncer openssh-server openssh-client git gnupg zstd shellcheck chromium faketime jq redis-server socat nftables mariadb-server

.PHONY: help
help: ## Show what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

.venv/installed: requirements/dev.txt pyproject.toml
	@scripts/setup.sh
	@touch $@

.PHONY: setup
setup: .venv/installed ## Install the locked Python packages into .venv

.PHONY: up
up: setup ## Bring everything up on this machine and run the main job once
	@$(PYTHON) -m scripts.local.up $(if $(TIMEOUT),--timeout $(TIMEOUT))

.PHONY: status
status: setup ## Show how everything is; exit 1 if anything is not well
	@$(PYTHON) -m scripts.status

.PHONY: down
down: setup ## Stop everything and keep the data
	@$(PYTHON) -m scripts.local.down

.PHONY: clean
clean: setup ## Remove everything that was made here: data, secrets, images, tools
	@$(PYTHON) -m scripts.local.down --remove all
	@find . -name __pycache__ -o -name '.*_cache' | xargs rm -rf .venv .hypothesis

.PHONY: deploy
deploy: setup ## Deploy to the cluster of NOMAD_ADDR: make deploy VARS="a.hcl b.hcl" TIMEOUT=900
	@$(PYTHON) -m scripts.deploy $(foreach file,$(VARS),--var-file $(file)) $(if $(TIMEOUT),--timeout $(TIMEOUT))

.PHONY: drill
drill: setup ## Hold a restore drill now and show its report
	@$(PYTHON) -m scripts.restore_drill

# Else each process compiles all tests again: two fifths of the processor time of collecting them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: check
check: setup ## Check style and run the tests that need no server, Docker or toolchain (under two minutes)
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m pytest -m "not programs and not slow and not e2e and not soak" --numprocesses 2

.PHONY: test
test: setup packages ## Run all tests: unit, integration, end to end (brings the platform up)
	@$(PYTHON) -m scripts.tools >/dev/null
	@$(PYTHON) -m pytest -m "not soak" --numprocesses 3 --durations 10

.PHONY: soak
soak: setup packages ## Run the long rounds: restarts, kills, thousands of random cases
	@$(PYTHON) -m scripts.tools >/dev/null
	@$(PYTHON) -m pytest -m soak --timeout 7200

.PHONY: bench
bench: setup ## Measure ingest and backup beside other tools: make bench OF=ingest PARTS="full incremental"
	@scripts/packages.sh postgresql-15 gnupg zstd
	@for of in $(or $(OF),ingest $(if $(PARTS),,backup)); do \
	  $(PYTHON) -m bench $$of $(foreach part,$(PARTS),--only $(part)) || exit; done

.PHONY: packages
packages:
	@scripts/packages.sh $(TEST_PACKAGES)

.PHONY: lint
lint: setup ## Check style, types, licences, shell scripts and job files
	@scripts/packages.sh shellcheck
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports --no-logo
	@$(PYTHON) -m scripts.licences --check
	@$(PYTHON) -m towncrier build --draft --version next >/dev/null
	@shellcheck .ci/run $$(git ls-files '*.sh')
	@$$($(PYTHON) -m scripts.tools nomad) fmt -check -recursive nomad vault-policies

.PHONY: licences
licences: setup ## Write docs/licences.md: every dependency and its licence
	@$(PYTHON) -m scripts.licences

.PHONY: changelog
changelog: setup ## Write CHANGELOG.md from changelog.d: make changelog VERSION=1.2.0
	@test -n "$(VERSION)" || { echo "error: no VERSION" >&2; \
	  echo "HINT: Name the release: make changelog VERSION=1.2.0" >&2; exit 2; }
	@$(PYTHON) -m towncrier build --version $(VERSION) --yes

.PHONY: lock
lock: setup ## Write new lock files from pyproject.toml
	@for extra in airflow backup ingest local dbt meltano superset dev; do \
	  $(UV) pip compile --quiet --upgrade --generate-hashes --no-emit-index-url \
	    --python-version 3.11 --extra $$extra --custom-compile-command "make lock" \
	    pyproject.toml --output-file requirements/$$extra.txt || exit 1; done
