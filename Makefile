# All compiled output is below ~/.cache/drydock (scripts/env.sh); nothing is written here.

SHELL := /bin/bash
PREFIX ?= /usr/local

.PHONY: build demo test torture bench fuzz install lint

# The release binary. RocksDB takes about ten minutes, the first time only.
build:
	@scripts/build

# The main job on real input; installs what is missing.
demo:
	@scripts/demo

# All tests; installs what is missing.
test:
	@scripts/test

# Random edits, kills, losses of power and damage, many more than in `make test`: hours.
torture:
	@scripts/torture

# The benchmarks' table.
bench:
	@scripts/bench

# Ten minutes of fuzzing for each parser, or FUZZ_SECONDS; needs a nightly compiler.
fuzz:
	@scripts/fuzz

# Formatting and clippy.
lint:
	@scripts/lint

# drydock, and the link `build` that is the same as `drydock build`.
install: build
	@. scripts/env.sh && \
	    install -D -m 755 "$$CARGO_TARGET_DIR/release/drydock" "$(DESTDIR)$(PREFIX)/bin/drydock" && \
	    ln -sfn drydock "$(DESTDIR)$(PREFIX)/bin/build" && \
	    echo "installed $(DESTDIR)$(PREFIX)/bin/drydock and $(DESTDIR)$(PREFIX)/bin/build"
