// Package eval measures a model: its quality on a text, the latency of prefill and decode, and the size of its KV cache.
// It also generates text and writes logits. Models whose latencies are compared run in turn; package eval/report collects
// the points of several models.
package eval
