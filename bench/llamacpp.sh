#!/bin/sh
# Times decode steps of llama.cpp and ours in turn, same shape, threads, batch, context and weights in f32:
#
#	bench/llamacpp.sh LLAMA_CPP "KV_HEADS…" BATCH CONTEXT THREADS
#
# LLAMA_CPP is a source folder of llama.cpp (commit c392e5094 of February 2025 is known to work) built in LLAMA_CPP/build with
# shared libraries. Of llama.cpp the fastest of f32 and f16 caches, with and without flash attention, counts, once with a cache of
# its own for each sequence and once with one prompt shared by all, which it then reads once a step. Ours has caches of their own.
set -eu
[ $# = 5 ] || { echo "usage: bench/llamacpp.sh LLAMA_CPP \"KV_HEADS…\" BATCH CONTEXT THREADS" >&2; exit 2; }
llama=$1 batch=$3 context=$4 threads=$5
work=${WORK:-$(mktemp -d)}
lib=$llama/build/bin
[ -x "$work/step" ] || c++ -O2 -std=c++17 -I"$llama/include" -I"$llama/ggml/include" "$(dirname "$0")/llamacpp/step.cpp" \
	-o "$work/step" -L"$lib" -lllama -lggml -lggml-base -Wl,-rpath,"$lib"
[ -x "$work/gqa-eval" ] || go build -o "$work/gqa-eval" ./cmd/gqa-eval

peer() { # kv heads, prompt: the best median of llama.cpp in ms
	for cache in "f32 0" "f16 0" "f16 1"; do
		# shellcheck disable=SC2086
		"$work/step" "$work/kv$1.gguf" "$threads" "$batch" "$context" $cache "$2" 5 2>/dev/null
	done | sort -n | head -n 1 | cut -d ' ' -f 1
}

ours() { # kv heads, format: the median in ms and the share of the roofline
	"$work/gqa-eval" latency --json --batch "$batch" --context "$context" --threads "$threads" --dtype "$2" --kv-dtype "$2" \
		--shape "layers=8,heads=16,kv_heads=$1,dim=1024,ffn=2816,vocab=8192,context=$((context + 1)),gated=true" |
		sed -n 's/.*"decode_ms_per_step": *\([0-9.]*\).*/\1/p; s/.*"roofline_share": *\([0-9.]*\).*/\1/p' | tr '\n' ' '
}

echo "kv heads | ours f32 ms, share | ours bf16 ms, share | llama.cpp ms, own caches | shared prompt"
for kv in $2; do
	[ -f "$work/kv$kv.gguf" ] || go run ./bench/llamacpp/gguf -kv-heads "$kv" -o "$work/kv$kv.gguf"
	echo "$kv | $(ours "$kv" f32) | $(ours "$kv" bf16) | $(peer "$kv" own) | $(peer "$kv" shared)"
done
