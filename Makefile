# The tasks of a developer. They need Go and make, and download the rest. Their results go to
# bin/, which git ignores, and to Go's caches.

# The race detector needs a C compiler on most systems. Without one the tests run without
# it, and say so; RACE=-race insists on it.
RACE ?= $(shell go list -race unsafe >/dev/null 2>&1 && echo -race)
FUZZTIME ?= 60s
CALLS ?= 20000

# go tool builds the pinned tools with the Go in use, and caches them.
tool = go tool -modfile=$(CURDIR)/tools/go.mod

# The library: the root package, and what it keeps to itself.
library = . $(patsubst $(shell go list -m)/%,./%,$(shell go list ./internal/...))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

.PHONY: test
test: ## Run the tests, in random order, under the race detector: a minute or two
	@echo "This runs the tests of each package in random order, which takes a minute or two. Each prints a line when it is done."
ifeq ($(RACE),)
	@echo "This Go cannot use its race detector (it needs cgo: a C compiler and CGO_ENABLED=1)."
	@echo "The tests run without it, so a data race would not be found."
endif
	go test $(RACE) -shuffle=on ./...

# go.mod names the oldest Go; the go command gets it like a module.
.PHONY: oldest
oldest: ## Run the tests with the oldest Go that go.mod allows
	GOTOOLCHAIN=go$$(awk '$$1 == "go" { print $$2 }' go.mod) go test -shuffle=on ./...

.PHONY: demo
demo: ## Watch messages wait for the end of an outage: 20 seconds, and a minute to build the first time; ARGS=-h lists the flags
	@mkdir -p bin
	@tools/build bin/outage ./examples/outage
	@bin/outage $(ARGS)

# Where the library is vetted besides here: a file can be left out, and an int is smaller on 386.
ports = windows/amd64 darwin/arm64 linux/386 js/wasm

# The library's packages, from the top down: each imports only what is below it.
layers = . ./internal/outage,./internal/netfail,./internal/redact ./internal/jsonbody

# The same of the outbox, which is a module of its own.
outbox_layers = ./cmd/outbox,./internal/readme,./internal/outboxtest ./page . ./sqlite,./internal/store ./internal/lane,./internal/message,./internal/pgtest,./internal/words

.PHONY: lint
lint: ## Check every module: gofmt, go vet, staticcheck, go mod tidy, circles of files
	@set -e; \
	unformatted=$$("$$(go env GOROOT)/bin/gofmt" -l .); \
	if [ -n "$$unformatted" ]; then echo "to be formatted with gofmt:"; echo "$$unformatted"; exit 1; fi; \
	modules=$$(tools/nested-modules); \
	for module in . $$modules; do \
		echo "lint $$module"; \
		folder=/$$(echo $$module | sed 's|^\.*/*||'); \
		grep -qx "      - $$folder" .github/dependabot.yml || { echo ".github/dependabot.yml has no entry for $$folder"; exit 1; }; \
		(cd $$module && go mod tidy -diff); \
		if [ -z "$$(find $$module -name '*.go')" ]; then continue; fi; \
		(cd $$module && go vet ./...); \
		case " $$(echo $$modules) " in \
		*" ./tools "*) (cd $$module && $(tool) staticcheck ./...);; \
		*) echo "staticcheck is left out: this Go is too old for it (tools/go.mod)";; \
		esac; \
	done; \
	case " $$(echo $$modules) " in \
	*" ./tools "*) echo "look for circles of files"; (cd tools && go run ./dependencies -C .. $(layers) && go run ./dependencies -C ../outbox $(outbox_layers) && \
		go run ./dependencies -C ../outbox/oteloutbox . && go run ./dependencies -C ../otelgraphretry .);; \
	esac; \
	for port in $(ports); do \
		echo "vet for $$port"; \
		GOOS=$${port%/*} GOARCH=$${port#*/} go vet ./...; \
	done

.PHONY: vuln
vuln: ## Look every module's dependencies up in Go's vulnerability database
	@set -e; \
	for module in . $$(tools/nested-modules); do \
		if [ -z "$$(find $$module -name '*.go')" ]; then continue; fi; \
		echo "govulncheck $$module"; \
		(cd $$module && $(tool) govulncheck ./...); \
	done

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (60s)
	@set -e; \
	for package in $(library); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "fuzz $$target of $$package for $(FUZZTIME)"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

.PHONY: cover
cover: ## Measure the statement coverage; fail below 95 %
	@mkdir -p bin
	go test -coverprofile bin/cover.out $(library)
	@go tool cover -func bin/cover.out | awk '/^total:/ { sub("%", "", $$3); covered = $$3 } \
		END { printf "%s %% of the statements are covered; at least 95 %% must be\n", covered; exit !(covered >= 95) }'

.PHONY: bench
bench: ## Measure graphretry and other libraries, write bench/RESULTS.md and draw docs/*.svg: one to two hours on two cores
	cd bench && go test -count=1 -timeout=4h -full -seeds=20 -subject=all -pictures=../docs -results=RESULTS.md

.PHONY: chaos
chaos: ## Send CALLS (20,000) calls to a fake API that fails in every possible way, and compare the gate with its reference model
	go test $(RACE) -count 1 -v -run '^TestNothingIsLostOrSentTwiceInChaos$$' . -chaos.calls $(CALLS)
	go test $(RACE) -count 1 -v -run '^TestGateAgreesWithItsReferenceModel$$' ./internal/outage -model.schedules 1000

VERSION ?= v0.999.0
.PHONY: rehearse
rehearse: ## Release VERSION in a clone, and install it from there with go get
	tools/rehearse-release $(VERSION)

.PHONY: stress
stress: ## Run the tests over real connections 50 times (RUNS) beside 12 busy loops (LOAD): an hour
	RACE=$(RACE) tools/stress

# A file in a folder is of another package, and has that package's tests run for it.
# Chaos is left out: it is for load, and would take 15 s for each mutant.
.PHONY: mutate
mutate: ## Change one operator at a time; fail if the tests notice less than 90 % of the changes
	@mkdir -p bin
	@set -e; \
	for package in $(library); do \
		echo "mutate $$package"; \
		GOFLAGS="$$(go env GOFLAGS) -vet=off -count=1 -skip=^TestNothingIsLostOrSentTwiceInChaos$$" $(tool) gremlins unleash $$package \
			--exclude-files / --timeout-coefficient 3 --threshold-efficacy 90 --output bin/mutants-$$(basename $$(go list $$package)).json; \
	done
