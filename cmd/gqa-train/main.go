// Command gqa-train up-trains a checkpoint, usually one that gqa-convert wrote, and resumes interrupted runs.
package main

import "gqa/internal/cli"

func main() { cli.Main(newRoot) }
