# make demo    ten ranked takes for a prompt and a page about them: make demo PROMPT="fast ska with trumpets"
# make test    the tests
# make check   everything that CI checks: format, lint, layers, types, tests and how much of the code they run
# make attack  hostile files, weights, configurations and plugins, the whole table: minutes
# make format  put the code into shape
# Each makes the virtual environment .venv first, where it is missing or older than what it is made from.
# make integration   the generators that wrap a library, on the real libraries with random weights. Each library gets an
#                    environment of its own, .venv-<library> (gigabytes, minutes): make integration-audiocraft makes one

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROMPT ?= warm lo-fi piano, slow, vinyl crackle
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

LIBRARIES := audiocraft stable-audio-tools
INTEGRATION := $(LIBRARIES:%=integration-%)
CPU_TORCH := --extra-index-url https://download.pytorch.org/whl/cpu

.PHONY: demo test attack check lint types coverage format integration $(INTEGRATION)

demo: $(INSTALLED)
	$(BIN)/rerank generate "$(PROMPT)" -n 10 --duration 10 --report

test: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto

# the quick ones among them are tests like others; the last line says how many held
attack: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto -m "attack or not attack" tests/test_attack_*.py

check: lint types coverage

lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: $(INSTALLED)
	$(BIN)/mypy

coverage: $(INSTALLED)
	$(BIN)/python -m pytest -q -n auto --cov

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# For Linux, PyPI has torch with CUDA, some gigabytes; without an NVIDIA GPU the CPU build does the same. It is fetched
# by itself, so that no other package is looked up there; where that fails, the next line takes the one from PyPI.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rerank needs Python 3.11 or later: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi > /dev/null; then \
		$(BIN)/python -m pip install -q --retries 1 --no-deps -c constraints.txt $(CPU_TORCH) torch || true; \
	fi
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $(INSTALLED)

integration: $(INTEGRATION)

# The file is named, so that one whose library cannot be imported fails. Libraries of others warn of many things.
$(INTEGRATION): integration-%: .venv-%/.installed
	.venv-$*/bin/python -m pytest -q -W default --disable-warnings tests/integration/test_$(subst -,_,$*).py

# The pins of a library stand in tests/integration/<library>.txt; <library>-alone.txt is what is installed without its own.
$(LIBRARIES:%=.venv-%/.installed): .venv-%/.installed: tests/integration/%.txt tests/integration/%-alone.txt pyproject.toml
	$(PYTHON) -m venv .venv-$*
	echo '*' > .venv-$*/.gitignore
	if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi > /dev/null; then \
		.venv-$*/bin/python -m pip install -q --retries 1 --no-deps $(CPU_TORCH) \
			$$(grep -E '^torch(audio)?==' tests/integration/$*.txt) || true; \
	fi
	.venv-$*/bin/python -m pip install -q -r tests/integration/$*.txt -e .
	.venv-$*/bin/python -m pip install -q --no-deps -r tests/integration/$*-alone.txt
	touch $@
