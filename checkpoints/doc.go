// Package checkpoints reads and writes the files that hold a transformer's
// weights: safetensors, alone or in shards with an index, and the folder around
// them. What torch.save wrote is read too; no code in it is run.
//
// Reading is lazy. Open parses and checks the headers; the bytes of a [Tensor]
// are read when they are asked for, so a checkpoint may be larger than memory.
// Files are read by offset and never mapped: one that shrinks meanwhile gives an
// error, not a fault.
//
// Writing streams. [Write] takes what the tensors are first and their bytes after,
// in order, and makes the same bytes as the reference safetensors writer. An
// [Output] keeps a folder out of sight until it is whole.
package checkpoints
