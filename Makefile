# msb. `make help` lists the targets; every one of them works on a fresh clone.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
DESTDIR ?=
# A guest kernel for machines whose KVM only interprets ordinary ones; used by tests where this folder is present.
TEST_KERNEL ?= ../shared/kernel

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: setup
setup: ## install what builds and tests need (apt-get, only what is missing)
	@tests/setup.sh

.PHONY: kernel
kernel: ## build the guest kernel, or find it built, and print its path (KERNEL_PATCHES=DIR KERNEL_CONFIG=FILE)
	@guest/kernel/build.sh

.PHONY: test-kernel
test-kernel: ## the same with the patch and settings of TEST_KERNEL=../shared/kernel, for tests
	@test -e $(TEST_KERNEL)/required.config || { echo "test-kernel: there is no $(TEST_KERNEL)/required.config" >&2; exit 1; }
	@KERNEL_PATCHES=$(TEST_KERNEL) KERNEL_CONFIG=$(TEST_KERNEL)/required.config guest/kernel/build.sh

.PHONY: build
build: setup ## build msb (release)
	$(CARGO) build --release --locked

.PHONY: install
install: build ## install msb, its links, guest kernel, completions and manual page under PREFIX
	@kernel=$$(guest/kernel/build.sh); to=$(DESTDIR)$(PREFIX); target=$${CARGO_TARGET_DIR:-target}; \
	install -D -m 755 $$target/release/msb $$to/bin/msb; \
	for name in msr msx msi; do ln -sf msb $$to/bin/$$name; done; \
	install -D -m 644 $$kernel $$to/share/msb/vmlinux; \
	install -D -m 644 completions/msb.bash $$to/share/bash-completion/completions/msb; \
	install -D -m 644 completions/_msb $$to/share/zsh/site-functions/_msb; \
	install -D -m 644 completions/msb.fish $$to/share/fish/vendor_completions.d/msb.fish; \
	install -D -m 644 docs/msb.1 $$to/share/man/man1/msb.1; \
	echo "installed in $$to; try: msb doctor"

.PHONY: uninstall
uninstall: ## remove what `make install` installed
	@to=$(DESTDIR)$(PREFIX); rm -f $$to/bin/{msb,msr,msx,msi} $$to/share/msb/vmlinux $$to/share/bash-completion/completions/msb \
		$$to/share/zsh/site-functions/_msb $$to/share/fish/vendor_completions.d/msb.fish $$to/share/man/man1/msb.1

.PHONY: demo
demo: build ## from a registry to Python's output inside a microVM
	@tests/demo.sh

.PHONY: demo-project
demo-project: build ## a project of sandboxes that depend on each other: up, used, changed, down
	@tests/demo-project.sh

# The end-to-end tests run on both hypervisors: the normal kernel always, the special one where there is one.
# When that cannot be built, its tests are skipped and say so.
.PHONY: test
test: setup ## every test (MSB_REQUIRE_VMM=krun,qemu: fail where a hypervisor is missing)
	@MSB_TEST_KERNEL=$${MSB_TEST_KERNEL:-$$(guest/kernel/build.sh)}; export MSB_TEST_KERNEL; \
	if [ -z "$${MSB_TEST_KERNEL_PV:-}" ] && [ -e /dev/kvm ] && [ -e $(TEST_KERNEL)/required.config ]; then \
		MSB_TEST_KERNEL_PV=$$($(MAKE) -s test-kernel) || echo "test: no test kernel; tests that need it are skipped" >&2; \
	fi; \
	export MSB_TEST_KERNEL_PV; \
	tests/images/build.sh > /dev/null; \
	tests/fsck-erofs.sh > /dev/null || echo "test: no fsck.erofs; what it checks is skipped" >&2; \
	$(CARGO) test --workspace --locked -- $(ARGS)

.PHONY: bench
bench: build ## measure the promises of docs/SPECIFICATION.md, beside a rival (MSB_BENCH_RIVAL='COMMAND', empty for none)
	@images=$$(tests/images/build.sh); export MSB_BENCH_IMAGE=$$images/archives/docker-archive.tar MSB_BENCH_IMAGES=$$images/oci; \
	export MSB_BENCH_QEMU_KERNEL=$$(guest/kernel/build.sh); export MSB_KERNEL=$$MSB_BENCH_QEMU_KERNEL; \
	if target/release/msb doctor | grep -q 'only interprets' && [ -e $(TEST_KERNEL)/required.config ]; then \
		MSB_KERNEL=$$($(MAKE) -s test-kernel); export MSB_KVM_PROBE=skip; wrap="$$MSB_KERNEL $(TEST_KERNEL)/as-libkrunfw.py"; \
	fi; \
	export MSB_BENCH_RIVAL=$${MSB_BENCH_RIVAL-$$(benches/rival.sh $$images/oci $${wrap:-})}; \
	for bench in startup lifecycle copy shares network; do $(CARGO) bench --locked --bench $$bench || exit 1; done

.PHONY: bench-pull
bench-pull: build ## measure pulling an image of more than 1 GiB, beside a rival (MSB_BENCH_RIVAL_PULL='COMMAND', empty for none)
	@export MSB_BENCH_REGISTRY=$$(benches/big-image.sh); \
	export MSB_BENCH_RIVAL_PULL=$${MSB_BENCH_RIVAL_PULL-$$(benches/rival.sh --pull)}; \
	$(CARGO) bench --locked --bench pull

.PHONY: fuzz
fuzz: setup ## run every fuzz target for a minute each (SECONDS_EACH=60) (needs a nightly toolchain)
	@tests/fuzz.sh $${SECONDS_EACH:-60}

.PHONY: lint
lint: setup ## formatting, clippy, documentation, shell scripts
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked
	shellcheck .ci/run benches/*.sh guest/kernel/build.sh tests/*.sh tests/images/build.sh

.PHONY: generate
generate: ## write completions, manual page and schema anew
	MSB_UPDATE=1 $(CARGO) test --quiet --locked --lib schema
	MSB_UPDATE=1 $(CARGO) test --quiet --locked --test generated

.PHONY: deny
deny: ## check licences, sources and duplicates of all dependencies
	@tests/deny.sh

.PHONY: clean
clean: ## remove what cargo built; kernels and images stay in ~/.cache
	$(CARGO) clean
