// Command gqa-train up-trains a checkpoint, most often one that gqa-convert wrote, and resumes what was interrupted.
package main

import "gqa/internal/cli"

func main() { cli.Main(newRoot) }
