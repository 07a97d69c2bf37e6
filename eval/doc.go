// Package eval measures a model: its quality on a text, the latency of prefill and decode, and the size of its KV cache.
// It also generates text and writes logits. It runs one model at a time; package eval/report collects the points of
// several models.
package eval
