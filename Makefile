# make help lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
JOBS ?= auto
BIN := $(VENV)/bin
# make fuzz: seconds for each parser, and which (names with commas between; all when empty).
SECONDS ?= 600
TARGET ?=
# Pass pytest arguments with ARGS="-k reload".
ARGS ?=
CORE := not slow and not frameworks and not gpu and not zoo
REST := slow or frameworks or gpu

# Tests start hundreds of processes, and each would compile the whole package anew: twice the time of a start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help venv demo-venv test-venv test-all-venv demo test test-all zoo onnx-suite crowds edits chaos-mqtt chaos-power chaos-store fuzz bench bench-latency bench-peers bench-convert gpu-check lint format clean broker

help:
	@echo "usage: make TARGET           (PYTHON=python3.12 picks an interpreter, ARGS=... goes to the program)"
	@echo
	@echo "venv           $(VENV) with edged, its CPU runtime and the converter of scikit-learn"
	@echo "demo           train, convert, sign, serve over MQTT and a socket, reload under load"
	@echo "lint           ruff, mypy, import-linter"
	@echo "format         let ruff mend what it can"
	@echo "clean          remove what these made"
	@echo
	@echo "test           the core tests (at most 10 minutes)"
	@echo "test-all       the rest: frameworks, slow tests, faults"
	@echo "zoo            every real model of tests/zoo: package to bundle to ONNX Runtime"
	@echo "onnx-suite     the onnx package's backend tests through a daemon, bit by bit (5 minutes)"
	@echo "crowds         ten thousand killed clients and idle connections"
	@echo "edits          a thousand edits of the configuration under load (20 minutes)"
	@echo "fuzz           every parser under hostile input (SECONDS=600 for each, TARGET=onnx,json)"
	@echo "chaos-mqtt     kills and cuts between two brokers (20 minutes; as root: pulled cables too)"
	@echo "chaos-power    the power of the daemon cut 500 times (as root: loop devices)"
	@echo "chaos-store    the power cut 500 times during changes and installs (as root; 10 minutes)"
	@echo
	@echo "bench          what the daemon costs (8 minutes; ARGS='--only NAME' for one row)"
	@echo "bench-latency  latency over load beside ONNX Runtime alone, as a picture (6 minutes)"
	@echo "bench-peers    beside other inference servers (6 minutes, once they are installed)"
	@echo "bench-convert  what a conversion costs beside PyTorch's own export (1 minute)"
	@echo "gpu-check      what only an NVIDIA GPU can show"

venv:
	@.ci/venv $(VENV) $(PYTHON) demo

broker:
	@.ci/broker

demo-venv:
	@.ci/venv $(VENV) $(PYTHON) demo torch-cpu ocr-model

test-venv:
	@.ci/venv $(VENV) $(PYTHON) test

test-all-venv:
	@.ci/venv $(VENV) $(PYTHON) test ocr-model frameworks tensorrt openvino bindings perf-analyzer zoo-half

demo: broker demo-venv
	@$(BIN)/python docs/demo/run.py $(ARGS)

test: broker test-venv
	@$(BIN)/python -m pytest -n $(JOBS) -m "$(CORE)" $(ARGS)

test-all: broker test-all-venv
	@$(BIN)/python -m pytest -n $(JOBS) -m "$(REST)" $(ARGS)

zoo:
	@.ci/venv $(VENV) $(PYTHON) test ocr-model frameworks zoo
	@$(BIN)/python -m pytest -n $(JOBS) -m zoo $(ARGS) tests/zoo

onnx-suite:
	@.ci/venv $(VENV) $(PYTHON) test bindings
	@$(BIN)/python -m tests.onnx_suite.run $(ARGS)

crowds:
	@.ci/venv $(VENV) $(PYTHON) test
	@EDGED_CROWD=10000 $(BIN)/python -m pytest -s $(ARGS) tests/hostile/test_crowds.py tests/hostile/test_socket.py -k "killed or idle or slow or reads"

edits:
	@.ci/venv $(VENV) $(PYTHON) test
	@EDGED_EDITS=1000 $(BIN)/python -m pytest -s $(ARGS) tests/e2e/test_config_abuse.py -k mixed

chaos-mqtt: broker
	@.ci/venv $(VENV) $(PYTHON) test
	@$(BIN)/python -m tests.chaos.run $(ARGS)

chaos-power: broker
	@.ci/venv $(VENV) $(PYTHON) test
	@$(BIN)/python -m tests.chaos.power $(ARGS)

chaos-store: broker
	@.ci/venv $(VENV) $(PYTHON) test
	@$(BIN)/python -m tests.chaos.store $(ARGS)

fuzz:
	@.ci/venv $(VENV) $(PYTHON) test fuzz
	@$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) --target "$(TARGET)" $(ARGS)

build/load: benchmarks/load.c
	@mkdir -p build
	$(CC) -O2 -Wall -Wextra -o $@ $< -lm

build/http_load: benchmarks/http_load.c
	@mkdir -p build
	$(CC) -O2 -Wall -Wextra -o $@ $< -lm

build/mqtt_load build/mqtt_echo_floor: build/%: benchmarks/%.c benchmarks/mqtt.h
	@mkdir -p build
	$(CC) -O2 -Wall -Wextra -o $@ $<

build/grpc_client_floor: benchmarks/grpc_client_floor.c
	@mkdir -p build
	$(CC) -O2 -Wall -Wextra -o $@ $<

build/overload_floor.so: benchmarks/overload_floor.c
	@mkdir -p build
	$(CC) -O2 -Wall -Wextra -shared -fPIC -o $@ $< -lpthread

bench: broker build/load build/overload_floor.so build/http_load build/mqtt_load build/mqtt_echo_floor
	@.ci/venv $(VENV) $(PYTHON) demo grpc
	@$(BIN)/python -m benchmarks.run $(ARGS)

bench-latency: build/load
	@.ci/venv $(VENV) $(PYTHON) demo
	@$(BIN)/python -m benchmarks.latency $(ARGS)

bench-peers: build/load build/http_load build/grpc_client_floor
	@.ci/venv $(VENV) $(PYTHON) demo grpc
	@$(BIN)/python -m benchmarks.peers.run $(ARGS)

gpu-check:
# Beside a driver in a venv of its own: the package for a GPU takes the place of the other one.
	@if $(PYTHON) -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null; then venv=$(VENV)-gpu extras=gpu-check; else venv=$(VENV) extras="test tensorrt"; fi; \
	  .ci/venv $$venv $(PYTHON) $$extras; $$venv/bin/python -m benchmarks.gpu_check $(ARGS)

bench-convert:
	@.ci/venv $(VENV) $(PYTHON) test frameworks
	@$(BIN)/python -m benchmarks.convert $(ARGS)

lint:
	@.ci/venv $(VENV) $(PYTHON) test lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format:
	@.ci/venv $(VENV) $(PYTHON) lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-* .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -rf .import_linter_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
