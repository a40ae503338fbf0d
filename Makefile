# What one does with Rillcast. What runs is built with the profile dist, what is tested with release, which compiles faster (Cargo.toml).

SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO := cargo
SERVER := target/dist/rillcast

.DEFAULT_GOAL := help
.PHONY: help run demo test check bench fuzz soak

help: ## Says what there is to make.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 14

run: ## Builds the server and starts it; on a fresh Debian 12 it first installs what is missing.
	scripts/setup.sh run
	$(CARGO) build --profile dist --bin rillcast
	$(SERVER) serve

demo: ## Publishes a test picture with a clock and a beep to the running server.
	scripts/setup.sh demo
	scripts/demo.sh

test: ## Checks everything: style, unit tests, and end to end with real encoders and players.
	scripts/setup.sh test
	scripts/test.sh

check: ## The part of `make test` that needs no encoder and no player: formatting, lints, documentation, licences, fuzz targets.
	scripts/check.sh

bench: ## Measures against nginx with its RTMP module, ROUNDS (5) times in turns; ONLY some rows (docs/bench.md).
	scripts/setup.sh bench
	$(CARGO) build --profile dist --bin rillcast
	bench/run.py

fuzz: ## Runs each fuzz target for SECONDS_EACH (60) seconds, or for RUNS_EACH executions.
	scripts/setup.sh run
	scripts/fuzz.sh

soak: ## Goes through all that happens to a stream for MINUTES (30), round and round, and watches memory, open files and viewers; JUDGE is run meanwhile (docs/specs.md).
	scripts/setup.sh soak
	$(CARGO) build --release --bin rillcast
	scripts/soak.py
