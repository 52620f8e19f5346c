# What CI runs is `make check`; each target also works by itself from a fresh clone.
.DEFAULT_GOAL := help
.PHONY: help check restore build format test run bench

help: ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

check: ## everything that must hold before a merge: locked restore, build, format, tests
	dotnet restore --locked-mode
	dotnet build --no-restore
	dotnet format --verify-no-changes --no-restore
	dotnet test

restore:
	dotnet restore

build: ## build everything, warnings as errors
	dotnet build

format: ## put the code into its format
	dotnet format

test: ## all tests
	dotnet test

run: ## everything in one process, on http://127.0.0.1:9221
	dotnet run --project src/Foundry.Standalone

bench: ## the load test, on loopback; results go to bench/results/
	bench/run
