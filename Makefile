# Every target sets up what it needs in .venv. With PYTHON=/path/to/python an existing environment
# is used as it is, and nothing is installed.

VENV := .venv
ifeq ($(origin PYTHON), undefined)
  PYTHON := $(VENV)/bin/python
  ENVIRONMENT := $(VENV)/.installed
endif
BOOTSTRAP_PYTHON ?= python3

RUN := PYTHONPATH=$(CURDIR) $(PYTHON)
TOOLS = $(dir $(shell command -v $(PYTHON)))
CXX_SOURCES := $(shell find csrc tests -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')
PYTHON_SOURCES := setup.py csrc docs gridsample_ext tests benchmarks examples

.PHONY: help build test test-all docs demo bench bench-quick bench-cuda gpu-check wheel sdist sanitize sanitize-cuda test-avx512 lint format clean test-abi test-clang

help:
	@echo "make demo      register a photograph and a scan, and look across a panorama's seam (examples/)"
	@echo "make test      run the test-suite, parameters combined pairwise;  make test-all  all combinations"
	@echo "make docs      the documentation as a site, in build/docs; its examples are run"
	@echo "make bench     the benchmark, to JSON, tables and figures;  make bench-quick  part of it"
	@echo "make sanitize  tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make sanitize-cuda  the same for the CUDA kernels, emulated on the host"
	@echo "make test-clang  tests of what Clang makes of the sources"
	@echo "make test-avx512  tests with vectors as wide as AVX-512's, on a CPU that has only AVX2"
	@echo "make bench-cuda  the benchmark on an NVIDIA GPU;  make gpu-check  tests, sanitizers and benchmark there"
	@echo "make build     compile in place; seconds when little has changed"
	@echo "make wheel     a wheel for this Python, to dist/, with the CUDA kernels if nvcc is found;  make sdist  the sources"
	@echo "make lint      check style, types and GitHub's files;  make format  mend the style"
	@echo "make test-abi NEW_PYTHON=...  test the built binary, as it is, in another environment"
	@echo "make clean     remove all that was made, .venv included"

$(VENV)/.installed: requirements-dev.txt requirements-data.txt
	@$(BOOTSTRAP_PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "gridsample_ext needs Python >= 3.10; name one with BOOTSTRAP_PYTHON=...")'
	$(BOOTSTRAP_PYTHON) -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-data.txt
	touch $@

build: $(ENVIRONMENT)
	$(PYTHON) setup.py --quiet egg_info build_ext --inplace

# A worker on each of up to eight cores, where pytest-xdist is there. Threads that wait then leave the
# cores to others.
WORKERS = $(shell $(PYTHON) -c 'from importlib.util import find_spec; \
  print("-n auto --maxprocesses 8 --dist worksteal" if find_spec("xdist") else "")')
TIER := pairwise
test: build
	$(RUN) tests/cuda_emulation/build_emulation.py
	OMP_WAIT_POLICY=passive $(RUN) -m pytest --tier $(TIER) $(WORKERS) $(PYTEST_ARGUMENTS)

test-all: TIER := all
test-all: test

# Warnings are errors. Every page is read anew, so that none is missed.
docs: build
	$(RUN) -m sphinx --quiet --fail-on-warning --keep-going --fresh-env docs build/docs
	$(RUN) -m pytest -q tests/test_docs.py tests/test_coming_from.py tests/test_public.py
	@echo "docs: build/docs/index.html"

demo: build
	$(RUN) examples/register_photo.py
	$(RUN) examples/register_volume.py
	$(RUN) examples/panorama.py

bench: build
	$(RUN) benchmarks/run.py --out benchmarks/results/cpu.json $(BENCH_ARGUMENTS)
	$(RUN) benchmarks/report.py benchmarks/results/cpu.json --document docs/benchmarks.md \
	  --beside benchmarks/results/nvidia-h200-bench.json --figures docs/figures

bench-quick: build
	$(RUN) benchmarks/run.py --sets quick --no-peers --seconds 0.05 --out out/bench-quick.json
	$(RUN) benchmarks/report.py out/bench-quick.json

lint: $(ENVIRONMENT)
	$(PYTHON) -m ruff check $(PYTHON_SOURCES)
	$(PYTHON) -m ruff format --check $(PYTHON_SOURCES)
	$(TOOLS)clang-format --dry-run --Werror $(CXX_SOURCES)
	$(PYTHON) -m mypy
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/*_*.yml
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.citation-file-format --force-filetype yaml CITATION.cff

format: $(ENVIRONMENT)
	$(PYTHON) -m ruff check --fix $(PYTHON_SOURCES)
	$(PYTHON) -m ruff format $(PYTHON_SOURCES)
	$(TOOLS)clang-format -i $(CXX_SOURCES)

bench-cuda: build
	$(RUN) benchmarks/run_cuda.py --out benchmarks/results/cuda.json $(BENCH_ARGUMENTS)
	$(RUN) benchmarks/report.py benchmarks/results/cuda.json

# dist/ gets a wheel for this Python, for machines as old as manylinux_2_28, and the source
# distribution. What is compiled already is not compiled again.
wheel: $(ENVIRONMENT)
	$(PYTHON) csrc/wheel.py --out dist

sdist: $(ENVIRONMENT)
	rm -f dist/gridsample_ext-*.tar.gz
	$(PYTHON) -m build --quiet --sdist --no-isolation --outdir dist
	$(PYTHON) -m twine check --strict dist/gridsample_ext-*.tar.gz

# On a machine with an NVIDIA GPU; the build's time counts towards the ten minutes.
gpu-check: export GRIDSAMPLE_EXT_CUDA := 1
gpu-check: BEGIN := $(shell date +%s)
gpu-check: build
	$(RUN) benchmarks/gpu_check.py --spent $$(( $$(date +%s) - $(BEGIN) )) $(GPU_CHECK_ARGUMENTS)

# AddressSanitizer and UndefinedBehaviorSanitizer, in a build of its own (ten minutes to an hour), on
# every instruction set. PyTorch never frees all it allocates, so leaks are not looked for; the C++
# library is preloaded as well because exceptions are among what AddressSanitizer follows.
SANITIZE_TESTS ?= test_forward.py test_backward.py test_few_channels.py test_memory.py test_layouts.py test_threads.py test_hostile.py \
  test_second_order.py test_boundary_hostile.py test_circular_exact.py test_values_outside.py test_integers.py test_labels.py test_complex.py \
  test_warp.py test_warp_ops.py test_splines.py
PYTHON_ANYWHERE = $(if $(findstring /,$(PYTHON)),$(abspath $(PYTHON)),$(PYTHON))
SANITIZED := cd build/sanitize && ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=. \
  LD_PRELOAD="$(shell $(CXX) -print-file-name=libasan.so) $(shell $(CXX) -print-file-name=libstdc++.so)"
sanitize: $(ENVIRONMENT)
	GRIDSAMPLE_EXT_SANITIZE=1 $(PYTHON) setup.py --quiet build --build-lib build/sanitize
	for isa in $$($(SANITIZED) $(PYTHON_ANYWHERE) -c 'from gridsample_ext import _C; print(*_C.build_info()["isa_supported"])'); do \
	  echo "sanitize: $$isa"; \
	  ($(SANITIZED) GRIDSAMPLE_EXT_ISA=$$isa $(PYTHON_ANYWHERE) -m pytest -q -x -p no:cacheprovider --device cpu \
	    -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) $(addprefix $(CURDIR)/tests/,$(SANITIZE_TESTS)) $(PYTEST_ARGUMENTS)) || exit 1; \
	done

# The CUDA kernels on the host, threads in shuffled order, over the samples that the plain run has.
SANITIZE_CUDA_TESTS ?= test_forward.py test_backward.py test_dtypes.py test_layouts.py test_hostile.py \
  $(addprefix test_second_order.py::test_,jvp double_backward numbers_of_channels) \
  $(addprefix test_cuda_kernels.py::test_large_images_,are_summed_in_rows of_any_type) \
  test_warp_ops.py::test_random_small_calls test_cuda_few_channels.py::test_same_bits_as_with_any_strides \
  test_cuda_three_channels.py::test_gradients test_cuda_kernels.py::test_gradients_of_samples_inside
PRELOADED = LD_PRELOAD="$(shell $(CXX) -print-file-name=libasan.so) $(shell $(CXX) -print-file-name=libstdc++.so)"
sanitize-cuda: build
	GRIDSAMPLE_EXT_SANITIZE=1 $(RUN) tests/cuda_emulation/build_emulation.py
	GRIDSAMPLE_EXT_SANITIZE=1 GRIDSAMPLE_EMULATION_SHUFFLE=1 ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=$(CURDIR) \
	  $(PRELOADED) $(PYTHON) -m pytest -q -x -p no:cacheprovider --device emulated-cuda \
	  $(addprefix tests/,$(SANITIZE_CUDA_TESTS)) $(PYTEST_ARGUMENTS)

# What depends on the width of AVX-512's vectors, shown on a CPU that has only AVX2, in a build of its
# own (ten minutes): csrc/cpu/simd/avx512.h.
AVX512_TESTS ?= $(SANITIZE_TESTS) test_isa.py test_dtypes.py test_large.py test_random_shapes.py test_forward_mode.py
EMULATED_AVX512 = $(CURDIR)/build/avx512
test-avx512: $(ENVIRONMENT)
	GRIDSAMPLE_EXT_EMULATE_AVX512=1 $(PYTHON) setup.py --quiet build --build-lib $(EMULATED_AVX512)
	cd $(EMULATED_AVX512) && GRIDSAMPLE_EXT_ISA=avx512 PYTHONPATH=$(EMULATED_AVX512) $(PYTHON_ANYWHERE) -m pytest -q \
	  -p no:cacheprovider --device cpu -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) \
	  $(addprefix $(CURDIR)/tests/,$(AVX512_TESTS)) $(PYTEST_ARGUMENTS)

# What Clang makes of the sources, in a build of its own.
CLANG ?= clang++
CLANG_TESTS ?= test_forward.py test_backward.py test_few_channels.py test_second_order.py test_hostile.py
test-clang: $(ENVIRONMENT)
	CXX=$(CLANG) GRIDSAMPLE_EXT_CUDA=0 $(PYTHON) setup.py --quiet build --build-lib build/clang
	cd build/clang && PYTHONPATH=. $(PYTHON_ANYWHERE) -c 'from gridsample_ext import _C; info = _C.build_info(); print(info); assert "clang" in info["compiler"]'
	cd build/clang && PYTHONPATH=. $(PYTHON_ANYWHERE) -m pytest -q -p no:cacheprovider --device cpu \
	  -c $(CURDIR)/pyproject.toml --rootdir $(CURDIR) $(addprefix $(CURDIR)/tests/,$(CLANG_TESTS)) $(PYTEST_ARGUMENTS)

# The binary is built once and runs on later PyTorch releases: this shows it. No build comes first.
test-abi:
	PYTHONPATH=$(CURDIR) $(NEW_PYTHON) -c 'import torch, gridsample_ext._C as c; print("built with", c.build_info()["torch_built_with"], "running on", torch.__version__)'
	OMP_WAIT_POLICY=passive PYTHONPATH=$(CURDIR) $(NEW_PYTHON) -m pytest $(PYTEST_ARGUMENTS)

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f gridsample_ext/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
