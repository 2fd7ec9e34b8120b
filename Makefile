# Everything goes through these targets; `make` alone lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
PY := $(VENV)/bin/python
PACKAGES := common tts_service asr_service gateway client deploy tools tests bench
# The stamps are written by deploy/local/setup.py; `dev` includes `run`.
RUN := $(VENV)/.run-installed
DEV := $(VENV)/.dev-installed

VOICES := .venv-voices
TORCH := 2.13.0
VOICES_RUN := $(VOICES)/.voices-installed
VOICES_DEV := $(VOICES)/.voices-dev-installed

CLIENTS := .venv-clients
CLIENTS_RUN := $(CLIENTS)/.clients-installed

DOCS := .venv-docs
DOCS_RUN := $(DOCS)/.docs-installed

HOME_ASSISTANT := .venv-home-assistant
HOME_ASSISTANT_RUN := $(HOME_ASSISTANT)/.installed

# Settings of the containers that may be given to make, as in `make up TTS_REPLICAS=3`.
export OVERLAY TTS_REPLICAS ASR_REPLICAS

.PHONY: help setup setup-dev demo run health test-client test test-pythons lint format docs pins clean
.PHONY: build up down logs logs-tts logs-asr logs-gateway swarm-deploy test-containers
.PHONY: test-clients test-home-assistant voice test-voices bench-tacotron test-speech bench-listening

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(RUN) ## install what the fleet needs into .venv

setup-dev: $(DEV) ## that, and what tests and lint need

demo: $(RUN) ## start the fleet, speak, listen, echo, compare the words, stop the fleet
	@$(PY) -m deploy.local.demo

run: $(RUN) ## run the fleet in the foreground; Ctrl-C stops it
	@$(PY) -m deploy.local.run

health: ## ask each service of a running fleet how it is
	@if [ ! -e $(RUN) ] && deploy/containers running; then deploy/containers health; \
	else $(MAKE) --silent --no-print-directory $(RUN) && $(PY) -m deploy.local.health; fi

test-client: ## speak to a running fleet and have it echo, with the client programs
	@if [ ! -e $(RUN) ] && deploy/containers running; then deploy/compose run --rm client; \
	else $(MAKE) --silent --no-print-directory $(RUN) && $(PY) -m deploy.local.try_clients; fi

build: ## build the images (TTS_MODEL=… decides which voice is inside)
	@deploy/compose --profile client build

up: ## run the fleet in containers, and wait until all are healthy (TTS_REPLICAS=3, OVERLAY=dev)
	@deploy/containers up

down: ## stop and remove the fleet's containers
	@deploy/compose down --remove-orphans

logs: ## follow the logs of all containers
	@deploy/compose logs --follow --tail 100

logs-tts: ## follow the logs of one service; also logs-asr, logs-gateway
	@deploy/compose logs --follow --tail 100 tts

logs-asr:
	@deploy/compose logs --follow --tail 100 asr

logs-gateway:
	@deploy/compose logs --follow --tail 100 gateway

swarm-deploy: ## run or update the fleet on a Docker Swarm, from one of its managers
	@deploy/containers swarm_deploy

test: $(DEV) ## run all tests, two at a time
	$(PY) -m pytest --numprocesses 2 --dist worksteal

test-speech: $(DEV) ## listen to human speech, which is fetched once (from packages of Debian)
	OMP_NUM_THREADS=1 $(PY) -m pytest asr_service/tests_speech

bench-listening: $(DEV) ## measure recognition against plain faster-whisper, on the same speech
	$(PY) -m bench.listening

test-clients: $(DEV) $(CLIENTS_RUN) ## have Pipecat and LiveKit speak and listen through a fleet (installs them: 630 MB)
	CLIENTS_PYTHON=$(CLIENTS)/bin/python $(PY) -m pytest tests/clients/test_round_trips.py

test-home-assistant: $(DEV) $(HOME_ASSISTANT_RUN) ## have Home Assistant speak and listen through a fleet (installs it, with Python 3.13: 500 MB)
	HOME_ASSISTANT_PYTHON=$(HOME_ASSISTANT)/bin/python $(PY) -m pytest tests/clients/test_home_assistant.py

test-containers: $(DEV) ## build the images and test them, with an engine of its own where there is none
	$(PY) -m tests.containers.engine $(PY) -m pytest -p no:cacheprovider tests/containers

test-pythons: ## run the fast tests on Python 3.10 and 3.13, where they are installed
	@python=$$(deploy/local/find_python) && "$$python" tools/each_python.py

voice: $(VOICES_RUN) ## download, convert and prove the voice tacotron2-DDC (VOICE=name: another)
	OMP_NUM_THREADS=1 $(VOICES)/bin/python -W ignore -m tts_service.voices prepare $(VOICE)

test-voices: $(VOICES_DEV) ## compare the Tacotron2 engine with Coqui (installs torch: minutes)
	OMP_NUM_THREADS=1 $(VOICES)/bin/python -m pytest tts_service/tests_voices

bench-tacotron: $(VOICES_DEV) ## measure the Tacotron2 engine against Coqui
	$(VOICES)/bin/python -W ignore -m bench.tacotron

lint: $(DEV) ## ruff, black, mypy and import-linter, changing nothing
	$(PY) -m ruff check .
	$(PY) -m black --quiet --check .
	$(PY) -m mypy $(wildcard $(PACKAGES))
	$(VENV)/bin/lint-imports --no-logo --no-cache

format: $(DEV) ## put the code into shape
	$(PY) -m ruff check --fix .
	$(PY) -m black --quiet .

# NO_MKDOCS_2_WARNING: mkdocs is pinned below 2, so Material's notice about that version says nothing new.
docs: $(DOCS_RUN) ## build the documentation into site/ (open site/index.html)
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build --strict
	@echo "open $(CURDIR)/site/index.html"

# `dev` includes every extra that is installed from constraints/fleet.txt. UPGRADE=1 takes what is newest;
# without it only what pyproject.toml asks for anew is changed.
pins: $(DEV) ## renew constraints/fleet.txt from pyproject.toml (UPGRADE=1: all to the newest)
	$(PY) -m uv pip compile --quiet --universal --python-version 3.10 --extra dev \
		--no-header --no-annotate $(if $(UPGRADE),--upgrade) pyproject.toml -o constraints/fleet.txt
	$(PY) -m uv pip compile --quiet --universal --python-version 3.10 --extra voices-dev \
		--no-header --no-annotate $(if $(UPGRADE),--upgrade) pyproject.toml -o constraints/voices.txt
	$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --extra clients \
		--no-header --no-annotate $(if $(UPGRADE),--upgrade) pyproject.toml -o constraints/clients.txt
	$(PY) -m uv pip compile --quiet --universal --python-version 3.10 --extra docs \
		--no-header --no-annotate $(if $(UPGRADE),--upgrade) pyproject.toml -o constraints/docs.txt
	@# Coqui leaves torch to the user, so no package asks for it and the line is written by hand.
	echo "torch==$(TORCH)" >> constraints/voices.txt

clean: ## remove environments, caches, what the demo wrote, and the fleet's containers and images
	@deploy/containers clean
	rm -rf .venv .venv-* .run .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): pyproject.toml constraints/fleet.txt
	@python=$$(deploy/local/find_python) && "$$python" deploy/local/setup.py run --venv $(VENV)

$(DEV): pyproject.toml constraints/fleet.txt
	@python=$$(deploy/local/find_python) && "$$python" deploy/local/setup.py dev --venv $(VENV)

$(CLIENTS_RUN): pyproject.toml constraints/clients.txt
	@python=$$(deploy/local/find_python) && "$$python" deploy/local/setup.py clients --venv $(CLIENTS)

$(DOCS_RUN): pyproject.toml constraints/docs.txt
	@python=$$(deploy/local/find_python) && "$$python" deploy/local/setup.py docs --venv $(DOCS)

# Home Assistant wants other versions of what the fleet needs, too, so nothing of it is there.
$(HOME_ASSISTANT_RUN): tests/clients/home_assistant/requirements.txt | $(DEV)
	@python=$$($(PY) tools/each_python.py --find 3.13) && \
	$(PY) -m uv venv --quiet --clear --python "$$python" $(HOME_ASSISTANT)
	$(PY) -m uv pip install --quiet --python $(HOME_ASSISTANT) --requirement $<
	touch $@

$(VOICES_RUN): pyproject.toml constraints/voices.txt
	@python=$$(deploy/local/find_python) && "$$python" deploy/local/setup.py voices --venv $(VOICES)

$(VOICES_DEV): pyproject.toml constraints/voices.txt
	@python=$$(deploy/local/find_python) && "$$python" deploy/local/setup.py voices-dev --venv $(VOICES)
