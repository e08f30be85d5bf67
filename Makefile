# Tulle's front door. `make help` lists the targets; the README's commands are these.

CARGO ?= cargo
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export TULLE_TOOLS ?= $(CURDIR)/.tools
export PATH := $(TULLE_TOOLS)/bin:$(PATH)

TEST_ARGS ?=
BENCH_ARGS ?=
SOAK_ARGS ?=
MUTANTS_ARGS ?=
PEERS_ARGS ?=
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help demo test bench check soak fuzz mutants peers build tidy setup advisories

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## build for release and run a small mesh, each step of it checked
	@tools/setup.sh rust
	$(CARGO) build --release -p tulle-cli -p tulle-control -p tulle-proxy
	$(CARGO_TARGET_DIR)/release/tulle demo $(DEMO_ARGS)

test: ## install what the tests need, then run every test, a minute of faults, a minute of fuzzing
	@tools/setup.sh tests
	$(CARGO) build --workspace --bins
	@tools/leftovers.sh $(CARGO) test --workspace --no-fail-fast $(TEST_ARGS)
	@tools/leftovers.sh $(CARGO_TARGET_DIR)/debug/soak --seconds 60 --maximum-seconds 10 --share 0.3
	@crates/tulle-proxy/fuzz/run $(FUZZ_SECONDS)

bench: ## side-by-side benchmarks against the peers; target/bench/*.json
	@tools/setup.sh bench
	$(CARGO) build --release --workspace --bins
	$(CARGO_TARGET_DIR)/release/bench $(BENCH_ARGS)

check: ## formatting, lints, licences and bans, house rules
	@tools/setup.sh check
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) deny check licenses bans sources
	$(CARGO) test -p tulle-lab --test tidy

soak: ## the long runs: faults (five minutes) or fuzzing; results are written to docs/
	@tools/setup.sh tests
	$(CARGO) build --release --workspace --bins
	@tools/leftovers.sh $(CARGO_TARGET_DIR)/release/soak --docs docs $(SOAK_ARGS)

fuzz: ## every fuzz target of the proxy for FUZZ_SECONDS (60)
	@tools/setup.sh fuzz
	@crates/tulle-proxy/fuzz/run $(FUZZ_SECONDS)

mutants: ## switch features off one by one: the rows against Envoy must notice
	@tools/setup.sh tests
	$(CARGO) run -p tulle-lab --bin mutants -- $(MUTANTS_ARGS)

peers: ## the hostile requests through Envoy, HAProxy and nginx too; docs/reference/hostile.md
	@tools/setup.sh bench
	$(CARGO) build --workspace --bins
	$(CARGO_TARGET_DIR)/debug/peers $(PEERS_ARGS)

build: ## debug build of every program
	$(CARGO) build --workspace --bins

tidy: ## the house rules alone
	$(CARGO) test -p tulle-lab --test tidy

setup: ## install what tests, checks and benchmarks need
	@tools/setup.sh tests check bench

advisories: ## known vulnerabilities in dependencies (needs the network)
	@tools/setup.sh check
	$(CARGO) deny check advisories
