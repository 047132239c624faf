# What people type. Each target is a line or a script; `make help` lists them.

export PREFIX ?= /usr/local

.DEFAULT_GOAL := help
.PHONY: help build demo test lint bench clean-cluster install uninstall

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

# The whole workspace, so that building and testing agree on the features of nearly every crate and
# the second finds what the first compiled.
build: ## the binary, and the packages that building needs
	scripts/packages build
	cargo build --locked --workspace

demo: build ## a local cluster with the shop of examples/shop on it
	scripts/packages run demo
	examples/shop/demo

test: ## packages, lint and every test; ends with the totals
	scripts/test

lint: ## rustfmt, clippy, tidy, and cargo-deny where it is installed
	scripts/packages build
	scripts/lint

bench: ## what it costs, beside what does the same; TANDEM_SWARM names what measures Docker Swarm
	scripts/packages build run bench
	cargo xtask bench

clean-cluster: build ## stop the local cluster and remove its apps, volumes, images and what builds kept
	cargo run --locked --quiet -- down --purge --yes
	cargo xtask images --clear

install: ## an optimised binary, completions, units and settings under PREFIX
	scripts/packages build run
	cargo build --locked --release
	scripts/install install

uninstall: ## take away what install put there; changed settings and state stay
	scripts/install uninstall
