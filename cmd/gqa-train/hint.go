package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"

	"gqa/train"
)

// converted matches gqa-convert's default output names: INPUT-gqaG.
var converted = regexp.MustCompile(`^(.+)-gqa([1-9]\d*)[/\\]?$`)

// withCommand adds to the error of a run the command that makes the missing model, if that has a conversion's name.
func withCommand(err error, model string) error {
	name := converted.FindStringSubmatch(model)
	if !errors.Is(err, train.ErrNoModel) || name == nil {
		return err
	}
	input, groups := name[1], name[2]
	if _, missing := os.Stat(input); errors.Is(missing, fs.ErrNotExist) {
		if _, missing := os.Stat(input + ".safetensors"); missing == nil {
			input += ".safetensors"
		}
	}
	return fmt.Errorf("%w; make it with gqa-convert --groups %s %s", err, groups, input)
}
