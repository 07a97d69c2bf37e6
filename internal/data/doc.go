// Package data turns what a user names as data into what a model reads and is to predict. Data flows one way:
// a corpus of documents, token ids, windows, batches and their targets. Training and evaluation share it.
package data
