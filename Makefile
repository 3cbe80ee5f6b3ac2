# Kotoe: `make` alone lists what there is. Recipes use .venv, which any of them creates on a bare machine.
# PYTHON=... on the command line runs everything with an environment of your own; nothing is installed then.

VENV := .venv
PYTHON := $(VENV)/bin/python
BASE_PYTHON ?= python3
EXAMPLE := make image PROMPT="青い背景に赤いりんご" OUT=apple.png

# What the user typed reaches the recipes through the environment and as it is: $(value) keeps make from reading its
# `$`, and "$$PROMPT" in a recipe keeps the shell from reading anything else.
override PROMPT := $(value PROMPT)
override OUT := $(value OUT)
override SEED := $(value SEED)
override N := $(value N)
override MODEL := $(value MODEL)
override CONCEPTS := $(value CONCEPTS)
override FONT := $(value FONT)
override MINUTES := $(value MINUTES)
override FOLDER := $(value FOLDER)
export PROMPT OUT SEED N MODEL CONCEPTS FONT MINUTES FOLDER

# Recipes run modules of this folder, which Python would not look into; and torch takes only paths that are UTF-8,
# whatever the locale says.
unexport PYTHONSAFEPATH
export PYTHONUTF8 := 1

ifeq ($(PYTHON),$(VENV)/bin/python)
RUNTIME := $(VENV)/installed
DEV := $(VENV)/installed-dev
endif

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run image image-arguments docker-up test test-crash test-terraform test-containers deploy destroy lint check bench mini-train mini-eval mini-grid mini-sheet constraints clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(RUNTIME) ## backend and page on this machine, until Ctrl-C [FRONTEND_PORT=8501] [BACKEND_PORT=8000]
	@$(PYTHON) -m frontend_streamlit --with-backend

image: image-arguments $(RUNTIME) ## one picture: PROMPT="…" OUT=apple.png [SEED=1] [N=1] [MODEL=mini]
	@translation="$$($(PYTHON) -m frontend_streamlit.translation -- "$$PROMPT")" || exit $$?; \
	printf '%s\n' "$$translation" | $(PYTHON) -m backend_gpu image --out="$$OUT" \
	  $${SEED:+--seed="$$SEED"} $${N:+--n="$$N"} $${MODEL:+--model="$$MODEL"}

image-arguments: # before anything is installed
	@[ -n "$$PROMPT" ] && [ -n "$$OUT" ] || { echo 'make image needs PROMPT and OUT: $(EXAMPLE)' >&2; exit 2; }

COMPOSE := docker compose --file docker/compose.yaml

docker-up: ## both in containers, with docker compose [GPU=1] [MODEL=mini] [TORCH_INDEX=…] [FRONTEND_PORT=8501] [BACKEND_PORT=8000]
	@command -v docker >/dev/null || { echo 'docker is missing: install Docker, with its compose plugin' >&2; exit 2; }
	@docker compose version >/dev/null 2>&1 || { echo 'docker has no compose: install its plugin' >&2; exit 2; }
	@docker info >/dev/null 2>&1 || { echo 'docker does not answer: start it, and see that you may use it' >&2; exit 2; }
	@REVISION="$$(git rev-parse --short=12 HEAD 2>/dev/null)" \
	  $(COMPOSE) $(if $(filter 1,$(GPU)),--file docker/compose.gpu.yaml )up --build --detach --wait \
	  || { echo 'it did not start: the lines above say why, or $(COMPOSE) logs' >&2; exit 2; }
	@printf '\n  言絵 is ready: http://127.0.0.1:%s\n  $(COMPOSE) down stops it.\n\n' "$${FRONTEND_PORT:-8501}"

test: $(DEV) ## the tests, but for the three slow sets below; names what it skips [ARGS="-k unet"]
	@$(PYTHON) -m pytest $(ARGS)

test-crash: $(DEV) ## the tests that start and kill processes again and again [ARGS=…]
	@$(PYTHON) -m pytest -m crash $(ARGS)

test-terraform: $(DEV) ## the tests about the cloud: Terraform, boot, deploy command [ARGS=…]
	@TERRAFORM_TESTS=1 $(PYTHON) -m pytest tests/terraform tests/boot $(ARGS)

test-containers: $(DEV) ## the tests about images and containers, with a container engine [ARGS=…]
	@CONTAINER_TESTS=1 $(PYTHON) -m pytest tests/containers $(ARGS)

lint: $(DEV) ## ruff, mypy strict, terraform fmt
	@$(PYTHON) -m ruff check --quiet .
	@$(PYTHON) -m ruff format --check --quiet . \
	  || { echo 'not formatted as ruff does it; to change that: $(PYTHON) -m ruff format .' >&2; exit 1; }
	@$(PYTHON) -m mypy
	@if [ -z "$$(find terraform -name '*.tf' 2>/dev/null)" ]; then echo 'terraform fmt: skipped, there are no .tf files'; \
	elif ! command -v terraform >/dev/null; then echo 'terraform fmt: skipped, terraform is not installed'; \
	else terraform fmt -check -recursive terraform; fi

check: lint test ## lint and test; CI (.ci/run) runs the three slow sets too

bench: $(DEV) ## the benchmarks: a table with the command and the machine [ARGS=…]
	@$(PYTHON) -m tests.benchmarks.bench $(ARGS)
	@$(PYTHON) -m tests.benchmarks.service
	@$(PYTHON) -m tests.benchmarks.page

deploy: ## the whole cloud set-up: PROJECT=… [REGION=…] [ZONE=…] [GPU=t4] [AUTH=iap] [BACKEND=vm]
	@$(BASE_PYTHON) -m terraform.deploy deploy

destroy: ## remove it, pictures included: PROJECT=… [REGION=…] [YES=1] [WAIT=1]
	@$(BASE_PYTHON) -m terraform.deploy destroy

mini-train: $(RUNTIME) ## a mini model of your own: [CONCEPTS=my.tsv] [FONT=my.ttf] [MINUTES=60] [FOLDER=out/mini]
	@set -e; folder="$${FOLDER:-out/mini}"; minutes="$${MINUTES:-60}"; \
	case "$$minutes" in [!1-9]*|*[!0-9]*|???????*) \
	  echo "MINUTES is $$minutes: must be a whole number from 1 to 999999" >&2; exit 2;; esac; \
	echo "First the base model for $$minutes min, then the upsampler for $$((minutes / 3 + 1)); Ctrl-C stops, and the same"; \
	echo "command goes on from there."; \
	train() { $(PYTHON) -m backend_gpu.training "$$@" --folder="$$folder" \
	  $${CONCEPTS:+--concepts="$$CONCEPTS"} $${FONT:+--font="$$FONT"}; }; \
	train train base --minutes="$$minutes" $${CONCEPTS:+--start-from=backend_gpu/mini/weights}; \
	train train upsampler --minutes="$$((minutes / 3 + 1))" $${CONCEPTS:+--start-from=backend_gpu/mini/weights}; \
	train export

mini-eval: $(RUNTIME) ## score the mini model on held-out combinations [ARGS=…]
	@$(PYTHON) -m backend_gpu.training evaluate $(ARGS)

mini-grid: $(RUNTIME) ## draw the grid of 64 pictures from 64 prompts [ARGS=…]
	@$(PYTHON) -m backend_gpu.training grid $(ARGS)

mini-sheet: $(RUNTIME) ## draw everything the mini model knows on one sheet [ARGS=…]
	@$(PYTHON) -m backend_gpu.training sheet $(ARGS)

constraints: ## write constraints.txt anew from requirements*.txt
	@set -e; venv="$$(mktemp -d)"; trap 'rm -rf "$$venv"' EXIT; \
	$(BASE_PYTHON) -m venv "$$venv"; \
	"$$venv/bin/pip" install --quiet -r requirements.txt -r requirements-dev.txt; \
	{ sed '/^[^#]/,$$d' constraints.txt; \
	  "$$venv/bin/pip" freeze --all --exclude pip | sed 's/+[a-z0-9.]*$$//'; } > "$$venv/constraints.txt"; \
	cp "$$venv/constraints.txt" constraints.txt

clean: ## remove .venv and caches; pictures and data stay
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
	@find backend_gpu frontend_streamlit tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A terminal sees the downloads go by, a log does not.
PIP_INSTALL = $(PYTHON) -m pip install --disable-pip-version-check $$([ -t 2 ] || echo --quiet) -c constraints.txt

$(VENV)/installed: requirements.txt constraints.txt | $(VENV)/bin/pip
	@echo 'Installing requirements.txt into $(VENV): once, some minutes, most of it torch'
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements-local-translation.txt $(VENV)/installed
	@echo 'Installing requirements-dev.txt into $(VENV)'
	@$(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

$(VENV)/bin/pip: # the last file that venv writes: an interrupted set-up starts again
	@command -v $(BASE_PYTHON) >/dev/null \
	  || { echo '$(BASE_PYTHON) is missing: install Python 3.11 or newer' >&2; exit 2; }
	@$(BASE_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Kotoe needs Python 3.11 or newer, $(BASE_PYTHON) is $$($(BASE_PYTHON) -V 2>&1): try BASE_PYTHON=python3.11" >&2; exit 2; }
	@$(BASE_PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo '$(BASE_PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)' >&2; exit 2; }
	@$(BASE_PYTHON) -m venv --clear $(VENV)
