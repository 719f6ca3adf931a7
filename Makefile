# `make demo` and `make test` need nothing but Python >= 3.11 and a network for pip.
PYTHON ?= python3
VENV ?= .venv
# Options of your own for every pip call, e.g. PIP_ARGS="--index-url https://…".
PIP_ARGS ?=
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps

.PHONY: setup demo test test-fast test-slow fuzz bench results lint format hooks docs dist
.NOTPARALLEL: # under `make -j` too, one pip at a time works on the environment

setup: $(STAMPS)/demo

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit("n2f-jax needs Python >= 3.11, found " + sys.version.split()[0] + "; name another with PYTHON=…" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

# The stamp is set only after the face mesh is there and OpenCV imports.
$(STAMPS)/demo: $(STAMPS)/venv pyproject.toml n2f_jax/runtime/assets_cache.py
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet -e ".[demo]"
	@$(MAKE) --no-print-directory check-opencv
	$(BIN)/python scripts/fetch_assets.py
	@touch $@

$(STAMPS)/test: $(STAMPS)/demo
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet -e ".[test]"
	@$(MAKE) --no-print-directory check-opencv
	$(BIN)/python scripts/fetch_assets.py --test-photos
	@touch $@

# What lint needs: the packages for their types, and no assets.
$(STAMPS)/lint: $(STAMPS)/venv pyproject.toml
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet -e ".[lint]"
	@$(MAKE) --no-print-directory check-opencv
	@touch $@

# opencv-python links the system's libGL, which a bare server lacks; the headless build is the same module without windows.
.PHONY: check-opencv
check-opencv:
	@$(BIN)/python -c "import cv2" 2>/dev/null || { \
	  echo "opencv-python does not import here (no libGL?): taking opencv-python-headless instead"; \
	  $(BIN)/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless && \
	  $(BIN)/python -m pip install $(PIP_ARGS) --quiet opencv-python-headless && \
	  $(BIN)/python -c "import cv2"; }

demo: $(STAMPS)/demo
	$(BIN)/python scripts/demo.py --out demo_output

PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test: $(STAMPS)/test lint
	$(PYTEST)

# A bit of every package, meant to stay under two minutes on two cores: without the modules marked `medium`.
test-fast: $(STAMPS)/test
	$(PYTEST) -m "not slow and not medium"

# Torch comes first and alone, so that you choose the build: TORCH_PIP_ARGS="--index-url https://download.pytorch.org/whl/cpu".
TORCH_PIP_ARGS ?=
$(STAMPS)/torch: $(STAMPS)/test
	$(BIN)/python -m pip install $(TORCH_PIP_ARGS) --quiet torch==2.13.0
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet -e ".[test,torch]"
	# A second reference for FLAME; it pins packages of 2022 that its one file does not need.
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet --no-deps FLAME-PyTorch==0.0.1
	@touch $@

# Blender as a module, which reads rigs: wheels for Python 3.11 alone, 400 MB, an environment of its own (it wants NumPy 1).
BLENDER := $(VENV)/blender/bin/python
$(STAMPS)/blender: $(STAMPS)/venv
	$(PYTHON) -m venv $(VENV)/blender
	$(BLENDER) -m pip install $(PIP_ARGS) --quiet --only-binary :all: "bpy==4.5.*" || \
	  echo "bpy cannot be installed here: the tests that read rigs with Blender are skipped"
	@touch $@

test-slow: $(STAMPS)/torch $(STAMPS)/blender
	N2F_BLENDER_PYTHON="$$($(BLENDER) -c 'import sys, bpy; print(sys.executable)' 2>/dev/null | tail -1)" \
	  $(BIN)/python -m pytest -m slow --timeout 3600

# Damaged files for every reader of files from outside, so many each (the fast tests try a dozen): docs/reliability.md.
FUZZ_EXAMPLES ?= 1000
fuzz: $(STAMPS)/test
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest tests/fuzz --timeout 7200

# Every figure that README.md claims, and RESULTS.md's tables of the open benchmark: hours on two cores. A file that is
# there is not made again, and the long commands resume. `make bench` is the same on few heads, in minutes.
results: $(STAMPS)/test
	scripts/benchmarks/make_results.sh results $(BIN)/python

bench: $(STAMPS)/test
	SMALL=1 scripts/benchmarks/make_results.sh results_small $(BIN)/python

lint: $(STAMPS)/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

$(STAMPS)/docs: $(STAMPS)/venv pyproject.toml
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet -e ".[docs]"
	@touch $@

# The documentation as a site in site/: a warning ends it.
docs: $(STAMPS)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(STAMPS)/release: $(STAMPS)/venv pyproject.toml
	$(BIN)/python -m pip install $(PIP_ARGS) --quiet -e ".[release]"
	@touch $@

# What goes to an index: dist/*.tar.gz and dist/*.whl, and whether it would take them.
dist: $(STAMPS)/release
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

format: $(STAMPS)/lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Once in a clone: git runs ruff and the import contracts before each commit (.pre-commit-config.yaml).
hooks: $(STAMPS)/lint
	$(BIN)/pre-commit install
