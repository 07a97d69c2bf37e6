// Command gqa-eval measures models: quality, latency, and the trade-off between them over the number of groups.
package main

import "gqa/internal/cli"

func main() { cli.Main(newRoot) }
