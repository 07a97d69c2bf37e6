#!/usr/bin/env bash
# Times gqa-convert against cp of the same files, and against convert.py where Python has torch and safetensors, each with
# sync, by turns.
#
#   bench/convert.sh                           a random 4 GiB Llama, made and removed
#   MODEL=DIR RUNS=5 bench/convert.sh --dtype f16    another model, more turns, other flags
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d "${TMPDIR:-/tmp}/convert.XXXXXX")
trap 'rm -rf "$work"' EXIT
go build -o "$work/gqa-convert" ./cmd/gqa-convert
model=${MODEL:-$work/model}
[ -n "${MODEL:-}" ] || go run ./bench/llama "$model"

# The seconds that a command and a sync after it take.
timed() {
	sync
	local start=$EPOCHREALTIME
	"$@" >/dev/null
	sync
	awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }'
}

# The most memory that it held, in MB: the kernel's high-water mark, read while it runs.
convert() {
	"$work/gqa-convert" --groups "${GROUPS_TO:-8}" "$@" -o "$work/out" "$model" &
	local peak=0 now
	while now=$(awk '/^VmHWM/ { print int($2 / 1000) }' "/proc/$!/status" 2>/dev/null) && [ -n "$now" ]; do
		peak=$now
		sleep 0.02
	done
	wait $!
	echo "$peak" >"$work/peak"
}

echo "model $(du -shL "$model" | cut -f1), $(nproc) cores"
python=
if python3 -c 'import torch, safetensors' 2>/dev/null; then
	python=python3
fi
echo "cp_s ${python:+python_s }convert_s ratio${python:+ to_python} peak_MB"
for _ in $(seq "${RUNS:-3}"); do
	copy=$(timed cp -r "$model" "$work/copy")
	rm -rf "$work/copy"
	torch=
	if [ -n "$python" ]; then
		torch=$(timed "$python" bench/convert.py "$model" "$work/copy" "${GROUPS_TO:-8}")
		rm -rf "$work/copy"
	fi
	ours=$(timed convert "$@")
	rm -rf "$work/out"
	awk -v c="$copy" -v t="$torch" -v o="$ours" -v p="$(cat "$work/peak")" '
		BEGIN { printf "%s %s%s %.2f %s%s\n", c, t ? t " " : "", o, o / c, t ? sprintf("%.2f ", o / t) : "", p }'
done
