# Every task of the project; `make help` lists them.
.DEFAULT_GOAL := help
PYTHON ?= python

.PHONY: help setup format lint types layers check-fast test slow peers gpu nightly golden notebooks \
	docs main ci

help:  ## List the tasks
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup:  ## Install fgrad, editable, with everything but a GPU and the peers
	$(PYTHON) -m pip install -e ".[test,lint,docs]"

format:  ## Format the code and apply the safe lint fixes
	ruff check --fix .
	ruff format .

lint:  ## Check format and lint
	ruff format --check .
	ruff check .

types:  ## Check types (mypy --strict)
	mypy

layers:  ## Check that imports only point downwards
	PYTHONPATH=. lint-imports

check-fast: lint types layers  ## What to run before a commit: no test but the style tests
	pytest -q tests/style

test:  ## Run the tests
	pytest -q -n 2

slow:  ## Run the tests marked slow
	pytest -q -n 2 -m "slow and not peers"

peers:  ## Compare with JAX, PyTorch, autograd and diffusers (extra `peers`)
	pytest -q -m peers

gpu:  ## Run the tests that need a CUDA device (extra `cuda12` or `cuda13`)
	pytest -q -m gpu

nightly:  ## Run every test with 2,000 random examples a property
	FGRAD_HYPOTHESIS_PROFILE=nightly pytest -q -n 2 -m "not peers"

golden:  ## Rewrite the golden files; review the result with git diff
	pytest -q --update-golden tests

notebooks:  ## Run the notebooks (extra `docs`)
	pytest -q --nbmake notebooks

docs:  ## Build the documentation, warnings as errors (extra `docs`)
	$(PYTHON) -m sphinx -n -W --keep-going -b html docs docs/_build/html

main:  ## Train the FLUX-style model on the digits into out/
	$(PYTHON) examples/flux/train.py --out out

ci:  ## Do what CI does, in a fresh environment
	bash .ci/run
