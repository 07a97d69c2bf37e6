#!/usr/bin/env bash
# Times training on one NVIDIA GPU, ours and PyTorch's in turn, and prints the tables of docs/gpu.md. A GPU at its power limit is
# faster and slower by the minute: only ratios of one run count.
#
#   bench/gpu.sh                  everything on one GPU: llama neox 7b small losses greedy
#   bench/gpu.sh llama 7b         only these
#   bench/gpu.sh scale            ours on 1, 2, 4 and 8 GPUs, as many as there are: scale-1b, scale-13b on two, scale-34b on eight
#
# Needs python3 with torch and transformers 5 (scale does without), and disk: 15 GB for 7b, 30 GB for scale-13b, 75 GB for scale-34b. Environment:
#   GQA_TRAIN, GQA_EVAL   the binaries (default: built with the tag cuda, or those in PATH); greedy needs the second, the others the first
#   STEPS       timed steps of a turn of the 1B models (12); 7b makes half as many, the small models four times
#   TURNS       turns of each side (2)
#   OUT         folder for logs (default: a new one)
#   WORK        folder for checkpoints and compiled code, kept for the next time (default: a new one, removed)
#
# A part that fails says so in one line, the others go on, and the exit status is 1.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
[ $# != 0 ] || set -- llama neox 7b small losses greedy
for name; do
	case $name in
	llama | neox | 7b | small | losses | greedy | scale | scale-1b | scale-13b | scale-34b) ;;
	*) echo "unknown part $name: want llama, neox, 7b, small, losses, greedy, scale, scale-1b, scale-13b or scale-34b" >&2 && exit 2 ;;
	esac
done
if [ -z "${WORK:-}" ]; then
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/gpu.XXXXXX")
	trap 'rm -rf "$WORK"' EXIT
fi
[ -n "${OUT:-}" ] || OUT=$(mktemp -d "${TMPDIR:-/tmp}/gpu-logs.XXXXXX")
mkdir -p "$WORK" "$OUT" || exit
WORK=$(realpath "$WORK")
if { [ -z "${GQA_TRAIN:-}" ] || [ -z "${GQA_EVAL:-}" ]; } && command -v go >/dev/null; then
	mkdir -p "$WORK/bin" && CGO_ENABLED=0 go build -tags cuda -o "$WORK/bin" ./cmd/gqa-train ./cmd/gqa-eval || exit
	PATH=$WORK/bin:$PATH
fi
GQA_TRAIN=${GQA_TRAIN:-gqa-train} GQA_EVAL=${GQA_EVAL:-gqa-eval}
for name in "$GQA_TRAIN" "$GQA_EVAL"; do
	command -v "$name" >/dev/null || echo "no $name: name it with GQA_TRAIN or GQA_EVAL, or install Go" >&2
done
export GQA_TRAIN GQA_EVAL
export TORCHINDUCTOR_CACHE_DIR=$WORK/inductor TRITON_CACHE_DIR=$WORK/triton # so that the second turn compiles nothing
export TORCHINDUCTOR_FX_GRAPH_CACHE=1 TORCHINDUCTOR_AUTOGRAD_CACHE=1 HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE=1

failed=0

try() { # name of the log, command…
	local log=$OUT/$1.log status
	shift
	timeout --foreground "${LIMIT:-300}" "$@" >"$log" 2>&1
	status=$?
	[ $status = 0 ] && return
	failed=1
	local why="more than ${LIMIT:-300} s"
	[ $status = 124 ] || why=$(grep -v '^[[:space:]]*$' "$log" | tail -n 1 | cut -c 1-300)
	echo "FAILED $(basename "$log" .log): $why" >&2
	return 1
}

# One turn of a side, whose figures become a line of a file.
side() { # name of the log, side, model, batches, file
	case $2 in
	ours*) try "$1" python3 bench/gpu.py time "$3" "$WORK" "$2" "$4" "$5" ;;
	*) try "$1" python3 bench/gpu_torch.py time "$3" "$WORK" "$2" "$4" "$5" ;;
	esac
}

# Turns of all sides and their table. A side that has failed has no more turns.
turns() { # model, side:batch…
	local model=$1 file=$OUT/$1.jsonl gone=' ' turn one
	shift
	rm -f "$file"
	for turn in $(seq "${TURNS:-2}"); do
		for one in "$@"; do
			[[ $gone == *" $one "* ]] && continue
			side "$model-${one%:*}-$turn" "${one%:*}" "$model" "${one#*:}" "$file" || gone="$gone$one "
		done
	done
	[ ! -f "$file" ] || python3 bench/gpu.py table "$model" "$file" || failed=1
}

# Turns of the small models, each side at the batch that is its best.
best() { # model, batches…
	local model=$1 file=$OUT/$1-search.jsonl mine='' theirs='' batch
	shift
	try "$model-make" python3 bench/gpu.py make "$model" "$WORK" || return
	rm -f "$file"
	for batch in "$@"; do
		side "$model-ours-search" ours "$model" "$batch" "$file" || break
	done
	side "$model-torch-search" torch "$model" "$(IFS=, && echo "$*")" "$file"
	[ -f "$file" ] || return # neither side works
	mine=$(python3 bench/gpu.py best "$file" ours) && theirs=$(python3 bench/gpu.py best "$file" torch)
	[ -z "$mine$theirs" ] || turns "$model" ${mine:+"ours:$mine"} ${theirs:+"torch:$theirs"}
}

# Turns of a model on 1, 2, 4 and 8 GPUs, each beside the losses of one with as many windows.
scale() { # model
	local model=$1 file=$OUT/$1-scale.jsonl n turn
	try "$model-make" python3 bench/gpu.py make "$model" "$WORK" || return
	rm -f "$file"
	for turn in $(seq "${TURNS:-2}"); do
		for n in 1 2 4 8; do
			if [ "$n" -le "$cards" ]; then
				try "$model-$n-$turn" python3 bench/gpu.py scale "$model" "$WORK" "$n" "$file"
			elif [ "$turn" = 1 ]; then
				echo "scale-1b leaves out $n GPUs: $cards are here" >&2
			fi
		done
	done
	for n in 2 4 8; do
		[ "$n" -gt "$cards" ] || try "$model-one-$n" python3 bench/gpu.py scale-one "$model" "$WORK" "$n" "$file"
	done
	[ ! -f "$file" ] || python3 bench/gpu.py scale-table "$model" "$file" || failed=1
}

# A turn of a model that one GPU cannot train, as gqa-train plan says.
planned() { # part, model, GPUs, sharding if it is given
	local model=$2 n=$3 file=$OUT/$2-scale.jsonl
	if [ "$cards" -lt "$n" ]; then
		echo "$1 is left out: it needs $n GPUs, $cards are here" >&2
		return
	fi
	LIMIT=600 try "$model-make" python3 bench/gpu.py make "$model" "$WORK" || return
	rm -f "$file"
	LIMIT=${LIMIT:-900} try "$model-$n" python3 bench/gpu.py scale-plan "$model" "$WORK" "$n" "$file" "${@:4}" || return
	python3 bench/gpu.py scale-table "$model" "$file" || failed=1
}

part() {
	case $1 in
	scale) part scale-1b; part scale-13b; part scale-34b ;;
	scale-1b) scale llama-1b ;;
	scale-13b) planned "$1" llama-13b 2 ;;
	scale-34b) planned "$1" llama-34b 8 parameters ;;
	llama)
		try llama-1b-make python3 bench/gpu.py make llama-1b "$WORK" || return
		turns llama-1b ours:4 torch:4 ours-deterministic:4 transformers:4
		;;
	neox)
		try neox-1b-make python3 bench/gpu.py make neox-1b "$WORK" || return
		turns neox-1b ours:4 transformers:4
		;;
	7b)
		try llama-7b-make python3 bench/gpu.py make llama-7b "$WORK" || return
		turns llama-7b ours:8 torch:8
		;;
	small)
		best gopher-4m 256 512
		best llama-98m 32 64
		;;
	losses)
		rm -rf "$WORK/losses"
		try losses-torch python3 bench/gpu_torch.py losses "$WORK/losses"
		local family
		for family in llama gpt_neox qwen2 gpt2 t5; do
			[ ! -f "$WORK/losses/$family.json" ] || try "losses-$family" python3 bench/gpu.py losses "$WORK/losses" "$family"
		done
		python3 bench/gpu.py losses-table "$WORK/losses" || failed=1
		;;
	greedy)
		LIMIT=300 try greedy python3 bench/gpu_torch.py greedy checkpoints/sample/gopher-4m internal/golden/testdata/* && cat "$OUT/greedy.log"
		;;
	esac
}

echo "logs in $OUT" >&2
cards=$(python3 bench/gpu.py cards)
case $* in
scale*) nvidia-smi --query-gpu=name,driver_version --format=csv,noheader ;;
*) python3 bench/gpu_torch.py machine 2>"$OUT/machine.log" || { echo "FAILED machine: $(tail -n 1 "$OUT/machine.log")" >&2 && failed=1; } ;;
esac
for name; do
	start=$SECONDS
	part "$name"
	echo "$name took $((SECONDS - start)) s" >&2
done
exit $failed
