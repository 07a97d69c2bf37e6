package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gqa/checkpoints"
	"gqa/internal/cli"
	"gqa/internal/cli/advice"
	"gqa/internal/units"
)

// defaultOutput returns INPUT-gqaG beside the input or, for an input in a hub's cache, MODEL-gqaG in the current folder.
func (f flags) defaultOutput(input string) (string, error) {
	base, ending := baseName(input), "-gqa"+strconv.Itoa(f.groups)
	if len(f.byLayer) > 0 {
		ending = "-gqa" + strconv.Itoa(slices.Max(f.byLayer)) + "-per-layer"
	}
	if f.toLatent() {
		ending = fmt.Sprintf("-mla%d+%d", f.latent.Rank, f.latent.RopeDim)
	}
	model, ok := checkpoints.HubModel(filepath.Dir(base))
	if !ok {
		return base + ending, nil
	}
	if err := advice.OutsideHub(); err != nil {
		return "", err
	}
	slog.Info("the input lies in a hub's cache, where nothing is written: the result goes into the current folder", "output", model+ending)
	return model + ending, nil
}

// baseName returns the input's path without a weight file's extensions.
func baseName(input string) string {
	base := filepath.Clean(input)
	if abs, err := filepath.Abs(base); err == nil && (base == "." || strings.HasSuffix(base, "..")) {
		base = abs
	}
	for _, ending := range []string{".index.json", ".safetensors", ".bin", ".pth", ".pt", ".ckpt"} {
		base = strings.TrimSuffix(base, ending)
	}
	return base
}

// parseSize parses a size in bytes such as 5GB, 900MiB or 1000000.
func parseSize(s string) (int64, error) {
	if n, ok := units.ParseBytes(s); ok {
		return n, nil
	}
	return 0, cli.Usagef("--shard-size is %q, want a size such as 5GB or 900MiB", s)
}
