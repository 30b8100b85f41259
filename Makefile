# Everything a newcomer needs: `make demo` and `make test`. Both set themselves up.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

# Tests and the demo start many processes, each of which would compile all of the project anew.
unexport PYTHONDONTWRITEBYTECODE

# Install Debian packages as root; otherwise say the one command that does.
define apt
	if [ "$$(id -u)" = 0 ]; then \
		echo "Installing with apt: $(1)"; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
	else \
		echo "Run this once, then make again:   sudo apt-get update && sudo apt-get install -y $(1)"; exit 1; \
	fi
endef

# Have what root installs next start no service.
define start_nothing
	[ "$$(id -u)" != 0 ] || [ -e /usr/sbin/policy-rc.d ] || { trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
		printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
endef

# Name in `missing` what everything needs, so that one apt-get brings it with the rest.
BASE = missing=; [ -e $(VENV)/.installed ] || $(PYTHON) -c 'import ensurepip' 2>/dev/null || missing=python3-venv; \
	command -v softhsm2-util >/dev/null || missing="$${missing:+$$missing }softhsm2"

.PHONY: help demo docs test test-fast image-test image-packages opencryptoki-test ha-test ha-packages bench-packages citus-test dist \
	check format sql errors bench lock softhsm packages browser promtool

help:  ## Say what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: softhsm $(VENV)/.installed  ## Set up and run the whole service on this machine (ARGS=--once ends after the transcript)
	@$(RUN)/python -m cms.sandbox demo $(ARGS)

# Two at a time: many wait for a service, a database or a browser. A file's share what it sets up.
# Slow files come first (tests/conftest.py), so that none of them is left for the end alone.
test: packages browser promtool  ## Run every test
	@$(RUN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: $(VENV)/.installed  ## Run the tests that start no service, database, browser or command
	@$(RUN)/pytest -n 2 --dist loadfile -m "not slow" $(ARGS)

image-test: image-packages $(VENV)/.installed  ## Build the image, bring docker-compose.yml up with podman, and call it
	@$(RUN)/python -m tests.image.podman
	@$(RUN)/pytest tests/image $(ARGS)

opencryptoki-test: image-packages $(VENV)/.installed  ## Run what a third PKCS#11 module shows, in a container
	@$(RUN)/python -m tests.image.opencryptoki $(ARGS)

citus-test: $(VENV)/.installed  ## Run the tests of the stores on the database that CMS_TEST_DATABASE_URL names
	@test -n "$$CMS_TEST_DATABASE_URL" || { echo "CMS_TEST_DATABASE_URL is not set; see docs/scaling.md"; exit 1; }
	@$(RUN)/pytest -n 0 $(addprefix tests/cms/persistence/test_,store.py control_store.py plastics.py card_scripts.py) $(ARGS)

ha-test: packages ha-packages $(VENV)/.installed  ## Have three databases fail over under load, in every way we know
	@$(RUN)/pytest tests/ha/every_event.py -o log_cli=true -o log_cli_level=WARNING $(ARGS)

check: $(VENV)/.installed docs  ## Lint, types, architecture, compose file, documentation site
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports
	$(RUN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

# Nothing is fetched, and a link that leads nowhere ends it. The variable spares the theme's advertisement.
docs: $(VENV)/.installed  ## Build the documentation site in var/site
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

format: $(VENV)/.installed  ## Put code into the form that `make check` wants
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

sql: $(VENV)/.installed  ## Write the SQL of every request statement to tests/cms/persistence/sql
	@$(RUN)/python -m tests.cms.persistence.rendered_sql

errors: $(VENV)/.installed  ## Write the catalogue of every error to docs/errors.md
	@$(RUN)/python -m tests.cms.faces.catalogue

bench: packages bench-packages browser  ## Measure; see benchmarks/README.md
	@$(RUN)/python -m benchmarks $(ARGS)

# Of both sets of packages that an image can be built with. The tool warns that a lock tells of no dependencies.
dist: $(VENV)/.installed  ## Make a release of the last commit in dist/: archive, lists of its parts (SBOM), checksums
	@git diff --quiet HEAD || { echo "Commit first: a release is of the last commit."; exit 1; }
	@rm -rf dist && mkdir dist
	@set -e; name=issuer-pin-service-$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml); \
	git archive --prefix=$$name/ --output=dist/$$name.tar.gz HEAD; \
	export PYTHONWARNINGS=ignore SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct); \
	for set in "" -tracing; do $(RUN)/cyclonedx-py requirements requirements$$set.lock \
		--pyproject pyproject.toml --output-reproducible --output-file dist/$$name$$set.cdx.json; done; \
	cd dist && sha256sum -- * > SHA256SUMS && cat SHA256SUMS

lock: $(VENV)/.installed  ## Choose versions anew and write the lock files
	$(RUN)/pip install --quiet uv
	$(RUN)/uv pip compile --universal --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet \
		pyproject.toml --output-file requirements.lock
	$(RUN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet \
		pyproject.toml --extra sandbox --extra dev --constraint requirements.lock --output-file requirements-dev.lock
	$(RUN)/uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet \
		pyproject.toml --extra tracing --constraint requirements.lock --constraint requirements-dev.lock \
		--output-file requirements-tracing.lock

softhsm:
	@$(BASE); [ -z "$$missing" ] || { echo "Missing: $$missing."; $(call apt,$$missing); }

# What tests and benchmarks need: both PKCS#11 modules, the second a library without a tool, a pooler of
# connections to Postgres, two proxies (the third, Envoy, is in the virtual environment), and a browser.
packages:
	@$(BASE); \
	$(PYTHON) -c 'import ctypes; ctypes.CDLL("libsoftokn3.so")' 2>/dev/null || missing="$${missing:+$$missing }libnss3"; \
	[ -x /usr/sbin/haproxy ] || missing="$${missing:+$$missing }haproxy"; \
	[ -x /usr/sbin/nginx ] || missing="$${missing:+$$missing }nginx"; \
	[ -e /usr/lib/nginx/modules/ngx_http_js_module.so ] || missing="$${missing:+$$missing }libnginx-mod-http-js"; \
	[ -x /usr/sbin/pgbouncer ] || missing="$${missing:+$$missing }pgbouncer"; \
	grep -qs '^ID=ubuntu' /etc/os-release || [ -x /usr/bin/chromium ] || missing="$${missing:+$$missing }chromium"; \
	[ -z "$$missing" ] || { echo "Missing for tests and benchmarks: $$missing."; \
		$(start_nothing); \
		$(call apt,$$missing); }

# Ubuntu has Chromium as a snap only, which nobody can control from outside.
browser: $(VENV)/.installed
	@[ -x /usr/bin/chromium ] || ls -d "$${PLAYWRIGHT_BROWSERS_PATH:-$$(echo ~)/.cache/ms-playwright}"/chromium-* >/dev/null 2>&1 \
		|| { echo "Run this once, then make again:   $(RUN)/playwright install --with-deps chromium"; exit 1; }

# Of Debian's prometheus only the program that tests alert rules: a server that is installed starts.
promtool: $(VENV)/.installed
	@command -v promtool >/dev/null || [ -x $(RUN)/promtool ] || { \
		echo "Fetching promtool from Debian's package prometheus"; \
		folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && chmod 755 "$$folder" && \
		( cd "$$folder" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } && \
			dpkg-deb -x prometheus_*.deb . ) >/dev/null 2>&1 && \
		install -m 755 "$$folder/usr/bin/promtool" $(RUN)/promtool || \
		echo "It cannot be fetched: what needs it is left out."; }

# A program that reads digits from images.
bench-packages:
	@command -v tesseract >/dev/null || { echo "Missing for benchmarks: tesseract."; $(call apt,tesseract-ocr); }

# Containers, and what makes a base image of Debian packages: no registry is asked.
image-packages:
	@missing=; for tool in podman runc mmdebstrap docker-compose; do \
		command -v $$tool >/dev/null || missing="$${missing:+$$missing }$$tool"; done; \
	[ -z "$$missing" ] || { echo "Missing for containers: $$missing."; \
		$(call apt,podman runc mmdebstrap docker-compose catatonit golang-github-containernetworking-plugin-dnsname); }

# Three machines for a database; Patroni itself is in the virtual environment. Postgres makes no cluster,
# and nothing is started.
ha-packages:
	@missing=; [ -x /usr/bin/etcd ] || missing=etcd-server; \
	[ -x /usr/lib/postgresql/15/bin/postgres ] || missing="$${missing:+$$missing }postgresql-15"; \
	command -v ip >/dev/null || missing="$${missing:+$$missing }iproute2"; \
	[ -z "$$missing" ] || { echo "Missing for three databases: $$missing."; \
		if [ "$$(id -u)" = 0 ]; then \
			mkdir -p /etc/postgresql-common/createcluster.d; \
			echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.d/none.conf; \
		fi; \
		$(start_nothing); \
		$(call apt,$$missing); }

$(VENV)/.installed: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; name one: make PYTHON=python3.12 …"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "venv is missing."; $(call apt,python3-venv); }
	@echo "Making the virtual environment $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
