# `make` alone prints what there is. Settings are variables or environment: make demo DEMO_SECONDS=10.

SHELL         := /bin/bash
GOLANGCI      := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
SERVICES      := go run ./internal/services/cmd/services
NAMES         ?=
TESTFLAGS     ?=
TEST_PARALLEL ?= 2
DEMO_SECONDS  ?= 60
CHAIN         ?=
FUZZ_TIME     ?= 10s

export DEMO_SECONDS CHAIN
e2e e2e-kill: export E2E_READINGS ?= 1000000
# Beside other tests servers take longer to start: the kill test's times are stretched.
test: export E2E_SLOW ?= 3
test: export E2E_KILLS ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test race lint bench bench-smoke fuzz-smoke e2e e2e-kill up down status golden ci

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the IoT topology on simulated devices for DEMO_SECONDS (60); CHAIN=rocketmq takes real servers
	go run ./topologies/iot/cmd/iot demo

test: up ## all tests, against real servers, the end-to-end ones with 100000 and 33000 readings; TESTFLAGS=-v for more
	go test -p $(TEST_PARALLEL) -timeout 25m $(TESTFLAGS) ./topologies/iot/e2e ./... # the longest first: it mostly waits

# Operators run in one goroutine per task, which is the engine's. Where they have goroutines of their own, tests have packages of their own.
race: ## tests of the engine, and of operators with goroutines, under the race detector
	go test -race -timeout 15m $(TESTFLAGS) $$(go list ./flow/... | grep -v /flow/codec) ./operators/enrichtest ./operators/rule

lint: ## golangci-lint
	go run $(GOLANGCI) run ./...

bench: ## benchmarks, with allocations
	go test -run '^$$' -bench . -benchmem -timeout 60m $(TESTFLAGS) ./bench/...

bench-smoke: ## every benchmark once, to see that it works
	go test -run '^$$' -bench . -benchtime=1x -timeout 15m $(TESTFLAGS) $$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n1 dirname | sort -u)

fuzz-smoke: ## every fuzz target for FUZZ_TIME (10s)
	@set -e; \
	grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . | sed 's/:func /:/' | while IFS=: read -r file name; do \
	  echo "$$name in $$(dirname "$$file")"; \
	  go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ_TIME) -fuzzminimizetime 10x "$$(dirname "$$file")"; \
	done

e2e: ## E2E_READINGS (1000000) readings from MQTT to ClickHouse through real servers, each one counted
	go test ./topologies/iot/e2e -run 'TestE2E$$' -count=1 -timeout 30m -v

e2e-kill: ## the same while servers and the topology itself are killed
	go test ./topologies/iot/e2e -run 'TestE2EKill$$' -count=1 -timeout 30m -v

up: ## start mosquitto, RocketMQ, Kafka, ClickHouse on 127.0.0.1 (NAMES="clickhouse kafka" for some)
	@$(SERVICES) up $(NAMES)

down: ## stop them; data stays
	@$(SERVICES) down $(NAMES)

status: ## what runs, where
	@$(SERVICES) status $(NAMES)

golden: ## rewrite the golden files of tests that have the flag -update
	@dirs=$$(grep -rlE --include='*_test.go' 'flag\.Bool\("update"' . | xargs -r -n1 dirname | sort -u); \
	[ -n "$$dirs" ] || { echo "no test has the flag -update"; exit 1; }; \
	go test $$dirs -update

ci: ## all that a change must pass
	bash .ci/run
