#!/usr/bin/env bash
# Attacks the commands as accidents and strangers do, every attack that docs/trust.md counts. go test ./... makes a few of each.
#
#   bench/trust.sh              all
#   bench/trust.sh Flips Kills  only these tests
#
# strace (Debian: apt-get install strace) is needed for system calls that fail.
set -euo pipefail
cd "$(dirname "$0")/.."
names=$(IFS='|' && echo "$*")
go test ./bench/trust -count 1 -timeout 2h -v -run "$names" -args -full
