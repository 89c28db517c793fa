# The front door. Every target makes the environment it needs; `make clean` forgets it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
DEMO := demo-store

.PHONY: demo serve test test-slow check check-avx2 docs gpu notebooks format release-check clean

demo: .venv/installed  ## index the example passages, ask in French and in English
	rm -rf $(DEMO)
	$(BIN)/bloomz index pipeline/bloomz_haystack/examples --store $(DEMO)
	$(BIN)/bloomz ask "Quand a eu lieu le grand incendie de Londres ?" --store $(DEMO) --top-k 3
	$(BIN)/bloomz ask "How long is a French passport valid?" --store $(DEMO) --top-k 3

serve: .venv/installed-serve  ## index the example passages if there is no demo store, serve it on http://127.0.0.1:8000
	test -d $(DEMO) || $(BIN)/bloomz index pipeline/bloomz_haystack/examples --store $(DEMO)
	$(BIN)/bloomz serve --store $(DEMO) --host 127.0.0.1 --port 8000

test: .venv/installed-test  ## the suite, offline, in two to three minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

test-slow: .venv/installed-test  ## what takes whole processes: notebooks, README, kill -9, several at once; CI runs it too
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow -n auto --maxprocesses 4 --dist worksteal

check-avx2: .venv/installed-test  ## what the engine computes, as on a processor without AVX-512 and VNNI; `make test` is the other way
	HF_HUB_OFFLINE=1 ONEDNN_MAX_CPU_ISA=AVX2 $(BIN)/python -m pytest -n auto --maxprocesses 4 $(addprefix tests/engine/test_,int8.py oracles.py prefix_cache.py shared_calls.py tokens.py)

# BLOOMZ_DATA: the folder of the training sets; GPU_PYTHON: a Python whose torch sees the GPU.
GPU_PYTHON ?= $(BIN)/python
gpu: export PYTHONPATH := components:pipeline
gpu:  ## on a GPU: the tests marked gpu, the speed table, and, given BLOOMZ_DATA, both bundled models (10 minutes)
	@$(GPU_PYTHON) -c "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 'make gpu: torch sees no GPU on this machine')"
	HF_HUB_OFFLINE=1 $(GPU_PYTHON) -m pytest -m gpu
	$(GPU_PYTHON) -m bloomz_haystack benchmark speed --shape 560m --layers 24 --passages 256 --device cuda --only encode,question,rerank
	@test -z "$(BLOOMZ_DATA)" || PYTHON="$(GPU_PYTHON)" sh pipeline/bloomz_haystack/training/tiny/bundled.sh "$(BLOOMZ_DATA)" runs

check: .venv/installed-test .venv-pydoclint/installed  ## format, lint, types, docstrings
	$(BIN)/ruff format --check components pipeline tests docs/site docs/figures
	$(BIN)/ruff check components pipeline tests docs/site docs/figures
	$(BIN)/mypy components pipeline tests
	.venv-pydoclint/bin/pydoclint --config pyproject.toml -q components pipeline

docs: .venv-docs/installed  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet

format: .venv/installed-test
	$(BIN)/ruff check --fix components pipeline tests docs/site docs/figures
	$(BIN)/ruff format components pipeline tests docs/site docs/figures

notebooks: .venv/installed-test  ## run the notebooks again, with the run that the third one reads, and keep their outputs
	rm -rf notebooks/kept-run
	cd notebooks && ../$(BIN)/bloomz benchmark quality --corpus squad --query-lang fr --passage-lang en --data small-squad --systems bm25-stemmed,tiny-fr-en-retriever,hybrid-tiny --rerank tiny-fr-en-ranker --candidates 10 --out kept-run
	rm -r notebooks/kept-run/vectors notebooks/kept-run/report.html
	$(BIN)/python tests/notebook_outputs.py

release-check:  ## build wheel and sdist, look inside, install both ends of the version ranges, ask; writes dist/
	RELEASE_TAG=$(RELEASE_TAG) $(PYTHON) .ci/release_check.py

# torch is pinned: another version, or the default build of a bare "torch", is gigabytes of CUDA. Nothing is compiled
# beforehand: of 27,000 files a tenth is ever imported, and Python compiles those as they are.
PIP_INSTALL := bin/pip install --quiet --no-compile

.venv/bin/python .venv-docs/bin/python .venv-pydoclint/bin/python:
	$(PYTHON) -m venv $(@:/bin/python=)

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	.venv/$(PIP_INSTALL) -c constraints.txt -e .
	touch $@

.venv/installed-serve: pyproject.toml constraints.txt | .venv/bin/python
	.venv/$(PIP_INSTALL) -c constraints.txt -e ".[serve]"
	touch .venv/installed $@

.venv/installed-test: pyproject.toml constraints.txt | .venv/bin/python
	.venv/$(PIP_INSTALL) -c constraints.txt -e ".[test,check]"
	touch .venv/installed .venv/installed-serve $@

# An environment of its own: pydoclint and haystack-ai bring two packages that share the folder docstring_parser.
.venv-pydoclint/installed: pyproject.toml | .venv-pydoclint/bin/python
	.venv-pydoclint/$(PIP_INSTALL) "pydoclint>=0.6"
	touch $@

# The extra alone, without torch and Haystack: the site is made from the sources.
.venv-docs/installed: pyproject.toml | .venv-docs/bin/python
	.venv-docs/bin/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['docs'], sep='\n')" > .venv-docs/requirements.txt
	.venv-docs/$(PIP_INSTALL) -r .venv-docs/requirements.txt
	touch $@

clean:
	rm -rf .venv .venv-docs .venv-pydoclint .venv-release dist $(DEMO) site
