# make demo   invert the bundled sample portraits, edit a photo with three faces; no torch (sets everything up)
# make page   make wagi.html: the model in one page for the browser (downloads onnxruntime-web once, 33 MB)
# make test   lint, types and tests, in an environment of their own
PYTHON ?= python3
TORCH ?= torch==2.13.0
TEST_WORKERS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

DEMO_ENV := .venv-demo
TEST_ENV := .venv
TRT_ENV := .venv-trt
TRITON_ENV := .venv-triton
DEMO_STAMP := $(DEMO_ENV)/.installed
TEST_STAMP := $(TEST_ENV)/.installed
SAMPLES := runtime/wagi_rt/demo/samples
PHOTO := runtime/wagi_rt/demo/photo/prints
# The demo installs a copy, as a user's `pip install` does, and so is stale when a source changes.
DEMO_SOURCES := pyproject.toml $(shell find wagi runtime/wagi_rt -type f ! -path '*/__pycache__/*')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo page test lint trt-check triton-check clean

help:
	@sed -n '/^# make/s/^# //p' Makefile
	@echo "make lint   ruff and mypy only"
	@echo "make trt-check  build every graph with TensorRT's builder on the CPU (needs nvcc, TensorRT headers)"
	@echo "make triton-check  run the tests that need a Triton server (installs it into $(TRITON_ENV), Python 3.11 or 3.12)"
	@echo "make clean  remove the environments and what the commands wrote"

demo: $(DEMO_STAMP)
	$(DEMO_ENV)/bin/wagi-rt invert $(SAMPLES) -o demo-output --compare demo-output/compare.png --overwrite
	$(DEMO_ENV)/bin/wagi-rt edit $(PHOTO).jpg -o demo-output/prints-edited.jpg --fit face --quads $(PHOTO).json \
	  --set smile=1.5 --overwrite
	@echo
	@echo "Inverted portraits:                      $(CURDIR)/demo-output"
	@echo "Side by side (input, naive, WaGI):       $(CURDIR)/demo-output/compare.png"
	@echo "A photo, its three faces edited:         $(CURDIR)/demo-output/prints-edited.jpg"
	@echo "To have wagi-rt at hand:                 export PATH=\"$(CURDIR)/$(DEMO_ENV)/bin:\$$PATH\""

page: $(DEMO_STAMP)
	$(DEMO_ENV)/bin/wagi-rt page -o wagi.html --fetch --overwrite
	@echo
	@echo "Open it in a browser:                    file://$(CURDIR)/wagi.html"

test: lint
	OMP_NUM_THREADS=1 $(TEST_ENV)/bin/python -m pytest -n $(TEST_WORKERS) --dist loadfile $(PYTEST_ARGS)

lint: $(TEST_STAMP)
	$(TEST_ENV)/bin/ruff check .
	$(TEST_ENV)/bin/mypy

trt-check: $(TEST_STAMP) $(TRT_ENV)/.installed
	$(TEST_ENV)/bin/python export/trt_check.py --rtx $(TRT_ENV) $(TRT_CHECK_ARGS)

$(TRT_ENV)/.installed: | $(TRT_ENV)/bin/python
	$(TRT_ENV)/bin/python -m pip install -q onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0 && touch $@

triton-check: $(TEST_STAMP) $(TRITON_ENV)/.installed
	WAGI_TRITON=$(CURDIR)/$(TRITON_ENV) $(TEST_ENV)/bin/python -m pytest -m "slow or not slow" tests/test_triton_server.py

$(TRITON_ENV)/.installed: runtime/docker/triton.txt | $(TRITON_ENV)/bin/python
	$(TRITON_ENV)/bin/python -m pip install -q -r runtime/docker/triton.txt && touch $@

# The package supports Python 3.10, the pinned test tools do not.
$(DEMO_ENV)/bin/python $(TRT_ENV)/bin/python: MINOR := 10
$(TEST_ENV)/bin/python $(TRITON_ENV)/bin/python: MINOR := 11
$(DEMO_ENV)/bin/python $(TEST_ENV)/bin/python $(TRT_ENV)/bin/python $(TRITON_ENV)/bin/python: %/bin/python:
	@echo "creating $* with $(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, $(MINOR)))' \
	  || { echo "error: this needs Python 3.$(MINOR) or newer: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv --clear $* \
	  || { rm -rf $*; echo "error: $(PYTHON) cannot create environments: install python3-venv"; exit 1; }

$(DEMO_STAMP): $(DEMO_SOURCES) | $(DEMO_ENV)/bin/python
	@echo "installing the runtime (numpy, pillow, onnxruntime; no torch)"
	$(DEMO_ENV)/bin/python -m pip install -q ".[cpu]"
	@touch $@

$(TEST_STAMP): pyproject.toml constraints.txt | $(TEST_ENV)/bin/python
	@echo "installing torch and the test tools (a few minutes the first time)"
	$(TEST_ENV)/bin/python -m pip install -q -c constraints.txt "$(TORCH)"
	$(TEST_ENV)/bin/python -m pip install -q -c constraints.txt -e ".[cpu,openvino,trt,faces,ray,train,export,align,test]"
	@touch $@

clean:
	rm -rf $(DEMO_ENV) $(TEST_ENV) $(TRT_ENV) $(TRITON_ENV) build build-trt-check dist demo-output wagi.html .pytest_cache .mypy_cache .ruff_cache
