# Every target is one command of `istio-vms` or lab/; `make help` lists them. STACK chooses the stack, VM a machine.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
CLI := $(PY) -m commands
# As given: make would take ARGS='echo $HOME' for its own $H. Programs of ours read it from the environment, where no shell has touched it.
override ARGS := $(value ARGS)
# Two files of tests at a time: most of what they do is wait. ARGS='-n 0' has one after the other.
SIDE_BY_SIDE := -n 2 --dist loadfile
export STACK VM ARGS NAME FROM A B

.PHONY: help up down preview policy new-stack diff-stacks status verify rejoin snapshot pr-comment kubeconfig ssh env docs tools doctor test lint types unit engine e2e nightly bench setup

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "%-13s %s\n", $$1, $$2 }'

setup: ## system packages and the Python environment (every target does this first)
	@ops/setup

up: setup ## bring up the whole environment, prove it, print a summary  [STACK=dev|lab|…]
	@$(CLI) up

down: setup ## take everything of the stack down again; only the tool cache stays  [STACK=]
	@$(CLI) down

preview: setup ## what `up` would change; needs no cluster and no driver  [STACK=]
	@$(CLI) preview

policy: setup ## judge what `up` would make by the policies of docs/policies.md  [STACK=]
	@$(CLI) policy

status: setup ## the environment as it is now, read-only; fails when not all is well  [STACK=] [ARGS=--json]
	@$(CLI) status

verify: setup ## every promise of the mesh, shown with real traffic  [STACK=] [ARGS='--only NAME,… --json'|--list]
	@$(CLI) verify

rejoin: setup ## let a VM join the mesh again, with a new token  VM=vm-1 [STACK=]
	@$(CLI) rejoin

snapshot: setup ## a snapshot of each machine in turn (Multipass), before an upgrade  [VM=] [STACK=]
	@$(CLI) snapshot

pr-comment: setup ## the comment that a pull request would get for the stack  [STACK=] [ARGS=--drift]
	@$(CLI) pull-request preview

new-stack: setup ## write Pulumi.NAME.yaml from another stack's, every setting explained  NAME=qa [FROM=dev]
	@$(CLI) new-stack

diff-stacks: setup ## what differs between two stacks' settings, defaults applied  A=dev B=lab [ARGS=--json]
	@$(CLI) diff-stacks

kubeconfig: setup ## write the stack's kubeconfig (0600) and print its path  [STACK=]
	@$(CLI) kubeconfig

ssh: setup ## a shell on a machine, host key pinned  VM=vm-1 [STACK=] [ARGS='command']
	@$(CLI) ssh

env: setup ## what to eval to run pulumi by hand: eval "$(make -s env)"
	@$(CLI) env

docs: setup ## write the tables of docs/settings.md and the config of Pulumi.yaml, from the settings' models
	@$(CLI) docs

tools: setup ## get every tool the lab needs: official release first, else built from registries
	@$(PY) -m lab.tools install

doctor: setup ## which tools are there, from which source, and what is missing
	@$(PY) -m lab.tools doctor

# Without shellcheck and pyflakes, which it would call only where a machine happens to have them.
lint: setup ## ruff, the import contracts of pyproject.toml, and actionlint over .github/workflows
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .
	@.venv/bin/lint-imports --no-logo --no-cache
	@$(PY) -m lab.tools install --quiet actionlint && $(CLI) run -- actionlint -shellcheck= -pyflakes=

types: setup ## pyright, strict for components/ and actions/
	@$(PY) -m pyright

unit: setup ## unit tests: renderers against goldens, components under mocks, settings, drivers
	@$(PY) -m pytest tests/unit -n auto --dist worksteal $(ARGS)

engine: setup ## the real Pulumi engine on a local back end, a real Kubernetes API
	@$(PY) -m lab.tools install --quiet pulumi k3s helm
	@$(CLI) run -- $(PY) -m pytest tests/engine $(SIDE_BY_SIDE) $(ARGS)

test: lint types unit engine ## lint, types, unit and engine tests

e2e: setup tools ## the lab environment up, asserted through Kubernetes and SSH, destroyed, nothing left
	@$(CLI) run -- $(PY) -m pytest tests/e2e -m 'not nightly' $(SIDE_BY_SIDE) $(ARGS)

nightly: setup tools ## every e2e test, those that take long too
	@$(CLI) run -- $(PY) -m pytest tests/e2e $(SIDE_BY_SIDE) $(ARGS)

bench: setup tools ## times of up, second up, preview and down on this machine  [ARGS='--runs 3']
	@$(PY) -m bench $(ARGS)
