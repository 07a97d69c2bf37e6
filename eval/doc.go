// Package eval measures a model: its quality on a text, the latency of its prefill and decode, and its KV cache. It also generates
// text and writes logits. It runs one model at a time; package eval/report holds the points of many.
package eval
