// Package data turns user data into model inputs and targets. Data flows in one direction: a corpus of documents, token
// IDs, windows, and batches with their targets. Training and evaluation share the package.
package data
