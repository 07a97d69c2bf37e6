// Package checkpoints reads and writes the files that hold a transformer's weights: safetensors, in one file or in
// shards with an index, and the other files in the folder. It also reads files written by torch.save, without running
// any code in them.
//
// Reading is lazy. Open parses and checks the headers; the bytes of a [Tensor] are read on request, so a checkpoint may
// be larger than memory. Files are read by offset and never memory-mapped: if a file shrinks while it is open, the
// result is an error rather than a fault.
//
// Writing is streamed. [Write] takes the specs of the tensors first and their bytes later, in order, and produces the
// same bytes as the reference safetensors writer. An [Output] is a folder that becomes visible only when it is
// complete.
package checkpoints
