// Package train up-trains a checkpoint: corpus → batch → step → run. It computes with spago's autograd through the
// operators of internal/engine/spago, in float32, with AdamW and gradient clipping as PyTorch defines them.
//
// A run is a folder:
//
//	recipe.yaml            the recipe as resolved, which resume uses
//	metrics.jsonl          one Metrics per step
//	events.out.tfevents.*  the same for TensorBoard
//	checkpoints/step-N/    a Hugging Face folder in f32 with optimizer.safetensors and state.json: complete or absent
//	model/                 the result: a Hugging Face folder in the export dtype, once the last step is done
//
// The same recipe on the same machine gives bitwise identical losses, whatever the number of threads and however often
// the run was interrupted and resumed.
package train
