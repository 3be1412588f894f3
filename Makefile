# The project's commands. Each makes what it needs by itself, from Python 3.13 alone; what is in place is not made again.
#   make run     the whole system on this machine        make check   formatting, lint, types, template
#   make test    every test this machine can run         make build   sam build, ready for sam local and sam deploy
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
SAM_ENV := .tools/sam
CHECKOV_ENV := .tools/checkov
DOCS_ENV := .tools/docs
AWSCLI_ENV := .tools/awscli
# Running needs a fifth of what developing needs, and the command line less: environments of their own, unless the
# project's is there.
RUN_ENV := $(if $(wildcard $(VENV)/.installed),$(VENV),.tools/run)
CLI_ENV := $(if $(wildcard $(VENV)/.installed),$(VENV),.tools/cli)
TYPED := layers functions emulator/marketplace_emulator clients/python cli local tests bench tools conftest.py
IMPORTS := PYTHONPATH=.:layers/common:emulator:clients/python:cli
export SAM_CLI_TELEMETRY := 0

# $(call environment,FOLDER,LOCK): a virtual environment that holds exactly what the lock names
define environment
@tools/install $(1) $(2)
@touch $@
endef

.PHONY: help
help:
	@sed -n '2,/^SHELL/{/^#/s/^# \{0,1\}//p}' $(MAKEFILE_LIST)
	@echo; echo "All targets:"; sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

# Environments ---------------------------------------------------------------------------------------------------------
$(VENV)/.installed: requirements-dev.txt | tools/find-python tools/install
	$(call environment,$(VENV),requirements-dev.txt)

.tools/run/.installed: requirements-run.txt | tools/find-python tools/install
	$(call environment,.tools/run,requirements-run.txt)

.tools/cli/.installed: requirements-cli.txt | tools/find-python tools/install
	$(call environment,.tools/cli,requirements-cli.txt)

$(SAM_ENV)/.installed: requirements-sam.txt | tools/find-python tools/install
	$(call environment,$(SAM_ENV),requirements-sam.txt)

$(CHECKOV_ENV)/.installed: requirements-checkov.txt | tools/find-python tools/install
	$(call environment,$(CHECKOV_ENV),requirements-checkov.txt)

$(DOCS_ENV)/.installed: requirements-docs.txt | tools/find-python tools/install
	$(call environment,$(DOCS_ENV),requirements-docs.txt)

$(AWSCLI_ENV)/.installed: requirements-awscli.txt | tools/find-python tools/install
	$(call environment,$(AWSCLI_ENV),requirements-awscli.txt)

.PHONY: venv sam awscli
venv: $(VENV)/.installed ## the project's environment
sam: $(SAM_ENV)/.installed ## SAM CLI's environment
awscli: $(AWSCLI_ENV)/.installed ## AWS CLI's environment

# Running --------------------------------------------------------------------------------------------------------------
.PHONY: run sam-local dynamodb env-json
run: $(RUN_ENV)/.installed ## the whole system on this machine (ARGS="--help" lists the options)
	@$(IMPORTS) $(RUN_ENV)/bin/python -m local $(ARGS)

sam-local: $(RUN_ENV)/.installed ## what sam local's functions talk to: DynamoDB, SQS, EventBridge, AWS Marketplace
	@$(IMPORTS) $(RUN_ENV)/bin/python -m tools.sam_local $(ARGS)

dynamodb: $(RUN_ENV)/.installed ## AWS's DynamoDB Local on port 8000 (needs Java and npm)
	@$(RUN_ENV)/bin/python -m tools.dynamodb_local $(ARGS)

env-json: $(RUN_ENV)/.installed ## events/env.json, which sam local gives the functions
	@$(IMPORTS) $(RUN_ENV)/bin/python -m tools.sam_local --only-env-json $(ARGS)

.PHONY: screens
screens: $(VENV)/.installed ## the screens of docs/operations.md, from a system that is played for them
	@$(IMPORTS) $(BIN)/python -m tests.local_stack.runbook

.PHONY: cli
cli: $(CLI_ENV)/.installed ## the command line marketplace-saas, and one command of it (ARGS="doctor --stack NAME")
	@$(CLI_ENV)/bin/python -m tools.install_cli $(CLI_ENV)
	@$(CLI_ENV)/bin/marketplace-saas $(or $(ARGS),--help)

# Checking -------------------------------------------------------------------------------------------------------------
.PHONY: check check-code check-template check-locks test test-fast containers faults rehearse mutants bench fmt
check: check-code check-template check-locks ## formatting, lint, types, import floors, template, locks

check-code: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(TYPED)
	$(IMPORTS) $(BIN)/lint-imports --cache-dir .ruff_cache/imports

check-template: $(VENV)/.installed $(SAM_ENV)/.installed $(CHECKOV_ENV)/.installed
	$(BIN)/cfn-lint --append-rules cfn_lint_serverless.rules --template template.yaml
	$(SAM_ENV)/bin/sam validate --lint
	$(CHECKOV_ENV)/bin/checkov --config-file .checkov.yaml

check-locks: $(VENV)/.installed
	$(BIN)/python -m tools.locks --check

# By folders, and not the files with the most tests first: the longest tests are few to a file, and would end alone.
test: $(VENV)/.installed ## every test this machine can run
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

FAST := tests/unit tests/template tests/functions
test-fast: $(VENV)/.installed ## the tests for every few minutes: nothing slow, no container, no server, no browser
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not (slow or dynamodb_local or docker or browser or node)" $(FAST) $(ARGS)

containers: $(VENV)/.installed ## every sample event in a container of its own, killed metering runs, and all on Python 3.14 (needs Docker)
	tools/lambda-image
	tools/lambda-image 3.14
	REQUIRE_ALL=1 $(BIN)/python -m pytest -q -m containers tests/local_invoke $(ARGS)

SEEDS ?= 10000
faults: $(VENV)/.installed ## SEEDS=10000 fault schedules: is every unit billed exactly once?
	$(IMPORTS) $(BIN)/python -m tests.faults --seeds $(SEEDS) $(ARGS)

EXAMPLES ?= 1000
rehearse: $(VENV)/.installed ## EXAMPLES=1000 deployments and updates on paper: would CloudFormation take each, and lose nothing?
	$(IMPORTS) $(BIN)/python -m tests.rehearsal --examples $(EXAMPLES) $(ARGS)

mutants: $(VENV)/.installed ## break the product in many ways; is each noticed?
	$(IMPORTS) $(BIN)/python -m tests.faults.mutants $(ARGS)

bench: $(VENV)/.installed ## the benchmarks (ARGS="metering idle" for some of them)
	$(IMPORTS) $(BIN)/python -m bench $(ARGS)

fmt: $(VENV)/.installed ## format and mend what can be mended by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Documents ------------------------------------------------------------------------------------------------------------
.PHONY: docs pictures
docs: $(VENV)/.installed $(DOCS_ENV)/.installed ## the documentation site, build/site; a dead link is an error
	@$(BIN)/python -m tools.site

pictures: $(VENV)/.installed ## take the documents' pictures again, by doing the tutorial (needs Chromium)
	PICTURES=docs/images $(BIN)/python -m pytest -q tests/documents/test_tutorial.py

# Building -------------------------------------------------------------------------------------------------------------
.PHONY: build check-runtime lock clean
build: $(VENV)/.installed $(SAM_ENV)/.installed ## sam build, ready for sam local and sam deploy
	PYTHON=$(abspath $(BIN))/python $(SAM_ENV)/bin/sam build $(ARGS)
	$(BIN)/python -m tools.check_layer .aws-sam/build/CommonLayer

ENV ?= default
check-runtime: $(VENV)/.installed ## is the built layer for the Python that ENV=default of samconfig.toml deploys?
	@$(IMPORTS) $(BIN)/python -m tools.check_runtime --config-env $(ENV) $(ARGS)

lock: $(VENV)/.installed ## write the lock files again from their .in files (ARGS=--upgrade for newer versions)
	$(BIN)/python -m tools.locks $(ARGS)

clean: ## remove what was built and measured; the environments stay
	rm -rf .aws-sam build clients/typescript/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name __pycache__ -not -path './.venv/*' -not -path './.tools/*' -prune -exec rm -rf {} +
