package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gqa/configs"
	"gqa/configs/recipe"
	"gqa/convert"
	"gqa/eval/report"
	"gqa/internal/sweep"
	"gqa/train"
)

// about says who makes a report.
func about(cmd *cobra.Command, rules report.Rules) sweep.About {
	return sweep.About{
		Program: "gqa-eval " + cmd.Root().Version,
		Command: commandLine(append([]string{"gqa-eval"}, os.Args[1:]...)...),
		Rules:   givenRules(cmd.Flags(), rules, nil),
		Making:  making,
	}
}

// making returns the commands that made the model in a folder, one a line, as the records in the folder say: the conversion, and the
// up-training of its result. It is empty for a model that was neither converted nor trained here.
func making(folder, original string) string {
	if info, err := os.Stat(folder); err == nil && !info.IsDir() {
		folder = filepath.Dir(folder) // of a file of weights
	}
	for _, run := range []string{folder, filepath.Dir(folder)} {
		if !train.IsRun(run) {
			continue
		}
		file := filepath.Join(run, "recipe.yaml")
		line := commandLine("gqa-train", "run", "--config", file, "-o", run)
		if r, err := recipe.Load(file); err == nil {
			line = strings.TrimPrefix(making(fromHere(r.Model), original)+"\n"+line, "\n")
		}
		return line
	}
	text, err := os.ReadFile(filepath.Join(folder, "conversion.json"))
	var record convert.Summary
	if err != nil || json.Unmarshal(text, &record) != nil || record.Groups == 0 && record.Latent == nil {
		return ""
	}
	return conversionLine(record, folder, original)
}

// fromHere returns a path relative to the current folder, if it is below that.
func fromHere(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if below, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(below) {
		return below
	}
	return path
}

// conversionLine returns the command of a conversion. Its record has only the name of the source, which is the original's if that has the
// same name.
func conversionLine(record convert.Summary, folder, original string) string {
	words := append([]string{"gqa-convert"}, goalWords(record)...)
	option := func(name, value, usual string) {
		if value != usual {
			words = append(words, "--"+name, value)
		}
	}
	if record.Latent == nil {
		option("method", string(record.Method), string(convert.Mean))
	}
	option("grouping", string(record.Grouping), string(convert.Contiguous))
	option("target", string(record.Target), string(convert.Native))
	option("dtype", record.DType, "keep")
	option("seed", strconv.FormatUint(record.Seed, 10), "0")
	option("refine", strconv.Itoa(record.Refine), "0")
	if len(record.Sites) > 1 && slices.Contains(record.Sites, configs.EncoderSelf) {
		option("sites", string(convert.AllSites), "")
	}
	if record.Calibration != "" {
		option("calibration", record.Calibration, "")
		option("calibration-tokens", strconv.Itoa(record.CalibrationTokens), "0")
	}
	source := record.Source
	if filepath.Base(filepath.Clean(original)) == source {
		source = original
	}
	return commandLine(append(words, "-o", folder, source)...)
}

// goalWords returns the flags for what a conversion's cache holds.
func goalWords(record convert.Summary) []string {
	switch l := record.Latent; {
	case l != nil:
		words := []string{"--kv-rank", strconv.Itoa(l.Rank), "--rope-dim", strconv.Itoa(l.RopeDim)}
		if l.RankPerLayer != nil {
			words[0], words[1] = "--kv-bytes-per-token", strconv.FormatInt(record.KVBytesPerToken, 10)
		}
		if l.QueryRank > 0 {
			words = append(words, "--query-rank", strconv.Itoa(l.QueryRank))
		}
		if record.LatentBias {
			words = append(words, "--latent-bias")
		}
		return words
	case record.GroupsPerLayer != nil:
		return []string{"--groups-per-layer", strings.Join(strings.Fields(strings.Trim(fmt.Sprint(record.GroupsPerLayer), "[]")), ",")}
	}
	return []string{"--groups", strconv.Itoa(record.Groups)}
}

// plainWord matches a word that no shell changes.
var plainWord = regexp.MustCompile(`^[\w@%+=:,./-]+$`)

// commandLine returns a command as a line for a shell.
func commandLine(words ...string) string {
	for i, w := range words {
		if !plainWord.MatchString(w) {
			words[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}
