// Command gqa-convert turns a multi-head-attention checkpoint into grouped-query or multi-query attention.
package main

import "gqa/internal/cli"

func main() { cli.Main(newRoot) }
