# Two commands on a fresh Debian that has Go do everything: make demo, make test.
# Each installs the few packages it needs when it runs as root; without root it
# says what is missing.

GO ?= go
STATICCHECK = $(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2

# Packages that the race detector is worth its time for: what several
# goroutines share. Those that do not exist yet are left out.
RACE := $(wildcard internal/flock internal/journal internal/record internal/store internal/shim internal/stream \
	internal/logs internal/watch internal/wire internal/ports internal/dns internal/ipam internal/cni internal/nft internal/networks \
	internal/build/cache internal/build/file internal/build/run internal/build/solve internal/build/source \
	image image/build container volume network)

.PHONY: demo test race bench e2e lint cross readme tidy setup

demo: setup ## run a container, explained step by step
	$(GO) run ./examples/quickstart

test: setup ## all tests; as root they really run containers
	$(GO) test -timeout 20m ./...
	$(MAKE) race

race:
	$(GO) test -race -short -timeout 20m $(addprefix ./,$(RACE))

bench: setup ## compare with docker, podman and runc, whichever are installed
	cd bench && $(GO) run .

e2e: setup ## real clients; see e2e for what each suite wants installed
	cd e2e && $(GO) test -timeout 60m ./...

lint: ## gofmt, vet, staticcheck
	@unformatted=$$(find . -name '*.go' -not -path './.git/*' | xargs gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(STATICCHECK) ./...

# Everything compiles everywhere, tests included (vet type-checks them): what
# needs Linux says so when it is called.
cross: ## compile for macOS, Windows, and Linux without cgo
	GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) build ./... && GOOS=darwin GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...
	GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) build ./... && GOOS=windows GOARCH=amd64 CGO_ENABLED=0 $(GO) vet ./...
	GOOS=linux CGO_ENABLED=0 $(GO) build ./... && GOOS=linux CGO_ENABLED=0 $(GO) vet ./...

tidy: ## fail when go.mod or go.sum is not what go mod tidy would write
	$(GO) mod tidy -diff

readme: ## copy the package comment of doc.go into README.md
	$(GO) test -run TestReadmeOpensWithPackageComment . -update

# cgo needs a C compiler and libc's headers; tests also use Debian's static
# busybox where it is installed.
setup:
	@missing=; \
	command -v gcc >/dev/null || missing="$$missing gcc"; \
	[ -e /usr/include/stdio.h ] || missing="$$missing libc6-dev"; \
	[ "$$(uname)" = Linux ] || missing=; \
	wanted=$$missing; \
	command -v busybox >/dev/null || wanted="$$missing busybox-static"; \
	if [ "$$(uname)" != Linux ] || [ -z "$$wanted" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$wanted; \
	elif [ -n "$$missing" ]; then \
		echo "missing:$$missing; on Debian: sudo apt-get install -y --no-install-recommends$$missing" >&2; exit 1; \
	fi
