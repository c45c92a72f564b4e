# Two commands do everything: `make demo` and `make test`. Both create .venv and install into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := dev
JOBS := 2

.PHONY: demo bundle test check fix docs bench faults soak load clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $(READY)

demo: $(READY)
	$(BIN)/edgeemo export samples/checkpoints/live --out runs/demo
	$(BIN)/edgeemo demo --bundle runs/demo

bundle: $(READY)
	rm -rf edgeemo/assets/live
	$(BIN)/edgeemo export samples/checkpoints/live --out edgeemo/assets/live

test: $(READY)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --no-warn-unreachable --cache-dir .mypy_cache/win32 edgeemo samples
	$(BIN)/lint-imports

fix: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python -m benchmarks

# Every fault of every sensor, alone and two at once; hours of a session; 200 clients of `edgeemo serve` for
# ten minutes: each fails where it breaks a promise.
faults: $(READY)
	$(BIN)/python -m benchmarks.faults

soak: $(READY)
	$(BIN)/python -m benchmarks.soak

load: $(READY)
	$(BIN)/python -m benchmarks.serve

clean:
	rm -rf $(VENV) runs build dist site *.egg-info
