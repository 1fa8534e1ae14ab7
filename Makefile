# `make demo` and `make test` do everything on a fresh clone, in their own .venv.
# README.md lists the same steps as plain pip commands.
BIN := .venv/bin
INSTALLED := .venv/.installed
PHANTOM := cohorts/phantom/cohort.csv
# Each test process computes on one core, so that results do not depend on the machine's load.
TEST := OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 $(BIN)/python -m pytest -q
# Fast tests run in two processes; slow ones, many of which start Ray and kill it, one after another.
FAST := -m "not slow" -n 2 --dist loadfile

# Benchmarks want a machine that does nothing else; BENCH=--quick only tries them.
BENCH :=

.PHONY: help install demo test test-all lint audit clean bench bench-overhead bench-growth \
        bench-bootstrap bench-quality bench-limit bench-paper bench-scale bench-page \
        bench-campaign \
        faults faults-peers soak
.DEFAULT_GOAL := help

help:
	@echo "make demo      draw 944 phantom patients, search, retrain, evaluate, report"
	@echo "make test      the fast tests"
	@echo "make test-all  lint, types, and every test"
	@echo "make lint      ruff and mypy"
	@echo "make audit     known vulnerabilities of the pinned versions (asks pypi.org)"
	@echo "make install   only install, into .venv (PYTHON=... names the interpreter)"
	@echo "make bench     our search against what one would write instead (25 minutes)"
	@echo "make bench-limit | bench-overhead | bench-growth | bench-quality"
	@echo "                how near the processor's limit; what a trial costs; how time and memory"
	@echo "                grow; which search finds most"
	@echo "make bench-paper | bench-bootstrap"
	@echo "                a study of the paper's size; resampling against a plain loop"
	@echo "make bench-campaign"
	@echo "                the paper's whole programme on phantoms, judged on fresh ones (two hours)"
	@echo "make bench-scale"
	@echo "                1,000 short trials on 64 slots; what grows outside the networks"
	@echo "make bench-page puts what was measured into docs/ and README.md"
	@echo "make faults    what real machines do to a study, done on purpose (about 25 minutes)"
	@echo "make faults-peers"
	@echo "                the same to a plain Ray Tune script, each cut off after a minute"
	@echo "make soak      1,000 short trials, their processes killed at random (5 minutes)"
	@echo "make clean     remove caches, and nothing that you computed"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml
	@if [ -x $(BIN)/python ]; then exit 0; fi; \
	python=$$(PYTHON="$(PYTHON)" sh .ci/find-python) || exit 2; \
	echo "Installing polartune for $$($$python --version) into .venv (some minutes, about 6 GB)"; \
	$$python -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --config-settings editable_mode=compat -e '.[demo,dev,cluster]'
	@touch $@
	@echo "Installed. To use the polartune command: . .venv/bin/activate"

$(PHANTOM): | $(INSTALLED)
	$(BIN)/polartune phantom cohorts/phantom --map reserve

demo: $(INSTALLED) $(PHANTOM)
	$(BIN)/polartune run studies/demo.yaml

test: $(INSTALLED)
	$(TEST) $(FAST)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: $(INSTALLED)
	$(BIN)/python .ci/audit

test-all: lint
	$(TEST) $(FAST)
	$(TEST) -m slow

# Without OMP_NUM_THREADS: each contestant sets its own threads.
bench: $(INSTALLED)
	env -u OMP_NUM_THREADS $(BIN)/python -m benchmarks $(BENCH)

bench-overhead bench-growth bench-bootstrap: bench-%: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.$* $(BENCH)

bench-limit: $(INSTALLED)
	for backbone in efficientnet_lite0 resnet50; do \
	  OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.head_profile --backbone $$backbone $(BENCH) && \
	  OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.tried --backbone $$backbone $(BENCH) && \
	  OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.limit --backbone $$backbone $(BENCH) || exit 1; \
	done

bench-paper: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.paper_study $(BENCH)

bench-campaign: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.campaign $(BENCH)

bench-scale: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.slopes $(BENCH)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.scale $(BENCH)

bench-page: $(INSTALLED)
	$(BIN)/python -m benchmarks.speed_page
	$(BIN)/python -m benchmarks.scale_page

bench-quality: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.search_quality $(BENCH)

faults: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults $(BENCH)

faults-peers: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults.peers $(BENCH)

soak: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.soak $(BENCH)

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
