#!/usr/bin/env bash
# The study at 98M parameters, on one NVIDIA GPU: pre-trains a Llama of 12 layers and 12 heads for 192M tokens, then makes those cells of
# docs/study.yaml that study/results.jsonl does not have yet. With that file, a later run on another machine adds to it.
#
#   bench/study/98m.sh CORPUS
#
# CORPUS is a folder with train.txt.xz and val.txt.xz, whose documents end in <|endoftext|>. Everything is made in the folder study. Needs
# xz, python3 with torch, transformers 5 and tokenizers, and 10 GB of disk. Environment:
#   GQA_TRAIN, STUDY   the binaries (default: built with the tag cuda)
#   SEED               the seed whose cells to make (default: all)
#   JOBS               processes that make cells at the same time (2)
set -euo pipefail
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT # if a cell fails, the others must not go on unseen
[ $# = 1 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" && exit 2; }
corpus=$(realpath "$1")
cd "$(dirname "$0")/../.."
mkdir -p study
if [ -z "${GQA_TRAIN:-}" ] || [ -z "${STUDY:-}" ]; then
	CGO_ENABLED=0 go build -tags cuda -o study/bin/ ./cmd/gqa-train ./bench/study
fi
GQA_TRAIN=${GQA_TRAIN:-study/bin/gqa-train} STUDY=${STUDY:-study/bin/study}

if [ ! -d study/llama-98m ]; then
	for name in train val; do
		[ -f study/$name.txt ] || xz -dc "$corpus/$name.txt.xz" >study/$name.txt
	done
	[ -d study/init ] || python3 bench/study/init.py study/train.txt study/init 12 768 12 2048 16384 1024
	"$GQA_TRAIN" run --model study/init --data study/train.txt --steps 2930 --device cuda -o study/pretraining --quiet \
		--set batch=64 --set seq_len=1024 --set precision=bf16 --set optimizer.lr=1.5e-3 --set schedule.warmup=60 \
		--set schedule.final=0.04 --set valid_every=0 --set save_every=0
	mv study/pretraining/model study/llama-98m
fi

# Waits until so many cells are left. One that fails ends the script.
left() {
	while [ "$(jobs -p | wc -l)" -gt "$1" ]; do wait -n; done
}

# Conversions come first, since several cells need the same one, and all cells of a number of groups are of one process.
for starts in "(mean|grouped|refined)" "latent.*"; do
	for cells in "" -a0.005-.+ -a0.05-.+; do
		for groups in 12 4 2 1 6; do
			left $((${JOBS:-2} - 1))
			"$STUDY" -only "^llama-98m-$starts-g$groups-s${SEED:-[0-9]+}$cells\$" &
		done
		left 0
	done
done
"$STUDY" -only '^$' -decode # with nothing beside it
