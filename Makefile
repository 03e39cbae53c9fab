# The usual jobs. CI is .ci/run.
PYTHON ?= python

help:  ## show this
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

install:  ## install for development, with everything that tests and benchmarks compare against
	$(PYTHON) -m pip install -e ".[test,dev,peers,plot]"

build:  ## compile the extensions in place (FASTCONV_DEBUG=1 for checks and assertions)
	$(PYTHON) setup.py -q build_ext --inplace

test:  ## run the tests
	$(PYTHON) -m pytest

lint:  ## check style: Python and Cython
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	cython-lint fastconv

bench:  ## time the primitives, and a LeNet step against PyTorch
	$(PYTHON) -m pytest bench --benchmark-enable --benchmark-only
	$(PYTHON) -m bench.import_time
	$(PYTHON) -m bench.lenet_step

wheel:  ## build dist/*.tar.gz and a manylinux wheel (FASTCONV_CUDA=1: one with kernels for GPUs, +cu13)
	$(PYTHON) .ci/wheel.py

clean:  ## remove what was built
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +
	find fastconv -name '*.so' -delete

.DEFAULT_GOAL := help
.PHONY: help install build test lint bench wheel clean
