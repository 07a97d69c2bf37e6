// Package report presents the costs and benefits of conversions: a Report holds points of quality, decode latency and
// KV-cache bytes per number of groups, and recommends one of them. It can be written as JSON, Markdown, HTML, CSV, plots and JUnit.
// Gate compares two reports.
package report

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gqa/internal/file"
)

// File is the name of the report's data file in its folder.
const File = "report.json"

// maxFile is far larger than any report.
const maxFile = 64 << 20

// MethodMHA is the method of a point that was not converted.
const MethodMHA = "mha"

// Report is one quality/latency trade-off: the points measured for one model on one corpus and one machine. Its JSON form
// is the file report.json.
type Report struct {
	// Version is the version of the form: absent in version 1, whose points have no metrics.
	Version int    `json:"version,omitempty"`
	Model   string `json:"model"`
	Corpus  string `json:"corpus"`
	Machine string `json:"machine"`
	// Load is the share of the processors' time that other programs used while times were measured.
	Load float64 `json:"load,omitempty"`
	// Program is the program that measured, with its version. Date is when it did so (RFC 3339), Commands are what was called.
	Program  string   `json:"program,omitempty"`
	Date     string   `json:"date,omitempty"`
	Commands []string `json:"commands,omitempty"`
	// Prompt is the text that the points' continuations continue.
	Prompt string `json:"prompt,omitempty"`
	// Rules say which point is recommended; nil means DefaultRules.
	Rules  *Rules  `json:"rules,omitempty"`
	Points []Point `json:"points"`
}

// Point is one model of a trade-off: how it was made and what was measured.
type Point struct {
	// Groups is the number of KV heads; for latent attention, the number of the baseline's KV heads whose cache has the same size, or the
	// nearest.
	Groups int `json:"groups"`
	// Latent holds the sizes of latent attention, which has no groups.
	Latent *Latent `json:"latent,omitempty"`
	// Method is the way in which K/V heads became one: mean, first, random, align, calibrated; or mla for latent attention, or MethodMHA for
	// the original model.
	Method string `json:"method"`
	// Recipe describes everything that was done if Method is not sufficient, such as the grouping of heads and the loss
	// of the up-training. Points with the same recipe form one curve. Empty means the same as Method.
	Recipe string `json:"recipe,omitempty"`
	// Alpha is up-training tokens / original pre-training tokens; 0 means not up-trained.
	Alpha float64 `json:"alpha"`
	// UptrainTokens is the number of tokens the point was up-trained on.
	UptrainTokens int64 `json:"uptrain_tokens"`
	// Loss is the mean cross-entropy in nats per token, LossStderr its standard error.
	Loss       float64 `json:"loss"`
	LossStderr float64 `json:"loss_stderr"`
	// Perplexity is exp(Loss).
	Perplexity float64 `json:"perplexity"`
	// DecodeMsPerToken is milliseconds of decoding per token of a sequence's batch: the time of one step / Batch.
	// DecodeTokensPerS is its inverse, in seconds.
	DecodeMsPerToken float64 `json:"decode_ms_per_token"`
	DecodeTokensPerS float64 `json:"decode_tokens_per_s"`
	// PrefillMs is milliseconds to prefill a prompt for each of Batch sequences (a sweep takes 128 tokens).
	PrefillMs float64 `json:"prefill_ms"`
	Batch     int     `json:"batch"`
	Context   int     `json:"context"`
	// KVBytesPerToken is the size of the KV cache per token of one sequence, over all layers.
	KVBytesPerToken int64 `json:"kv_bytes_per_token"`
	// Params is the number of parameters.
	Params int64 `json:"params"`
	// Metrics are figures by name. Those that have a key of their own are here too, with what is known about their error.
	Metrics map[string]Metric `json:"metrics,omitempty"`
	// Folder holds the model, and Command makes it.
	Folder  string `json:"folder,omitempty"`
	Command string `json:"command,omitempty"`
	// Training is the curve of the up-training: tokens read and the loss in nats per token. See [Curve].
	Training [][2]float64 `json:"training,omitempty"`
	// Layers are what the conversion lost in each layer.
	Layers []LayerError `json:"layers,omitempty"`
	// Continuation is what the model wrote after the report's prompt.
	Continuation string `json:"continuation,omitempty"`
}

// Latent holds the sizes of latent attention: a cache holds a latent and a rotary key for each token and layer.
type Latent struct {
	Rank    int `json:"kv_lora_rank"` // width of the latent; if layers differ, the mean
	RopeDim int `json:"qk_rope_head_dim"`
}

// Version is that of the reports that this package writes; see [Report].
const Version = 2

// Metric is one figure of a point.
type Metric struct {
	Value  float64 `json:"value"`
	Stderr float64 `json:"stderr"` // standard error; 0 if it is not known, or if the figure is exact
	N      int     `json:"n"`      // number of predictions, items or steps that it is a mean of
	Unit   string  `json:"unit"`   // "share of …" is shown in percent; of ms, s, bytes and tokens/s differences are ratios
	Better string  `json:"better"` // Lower or Higher
	// Delta is Value minus the baseline's, and DeltaCI its 95% interval, with the same windows or items of both models in pairs.
	// Both are absent in the baseline itself, and DeltaCI where the error is not known.
	Delta   *float64    `json:"delta,omitempty"`
	DeltaCI *[2]float64 `json:"delta_ci,omitempty"`
}

// Values of Metric.Better.
const (
	Lower  = "lower"
	Higher = "higher"
)

// recipe returns the recipe of the point, which is the name of its curve.
func (p Point) recipe() string { return cmp.Or(p.Recipe, p.Method) }

// Name identifies a point of a report: "g=2 align" or "g=2 calibrated+similar+kl α=0.005"; for latent attention "112+16 mla".
func (p Point) Name() string {
	name := p.size() + " " + p.recipe()
	if p.Alpha > 0 {
		name += " α=" + strconv.FormatFloat(p.Alpha, 'g', 3, 64)
	}
	return name
}

// size returns what a cache holds, as short as it can be: g=2, or 112+16 for latent attention.
func (p Point) size() string {
	if p.Latent != nil {
		return fmt.Sprintf("%d+%d", p.Latent.Rank, p.Latent.RopeDim)
	}
	return fmt.Sprintf("g=%d", p.Groups)
}

// Read reads a report from its folder or from a file. All keys except a point's recipe are required, no others are
// allowed, and figures must be plausible. Errors name the file, the point and the key.
func Read(path string) (Report, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, File)
	}
	data, err := file.ReadMax(path, maxFile)
	if errors.Is(err, os.ErrNotExist) {
		return Report{}, fmt.Errorf("%s: %w", path, ErrNotFound)
	}
	if err != nil {
		return Report{}, err
	}
	r, err := parse(data)
	if err != nil {
		return Report{}, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// ErrNotFound is wrapped by the error for a report that does not exist.
var ErrNotFound = errors.New("no such report")

// parse parses the content of a report.json.
func parse(data []byte) (Report, error) {
	var r Report
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return Report{}, fmt.Errorf("not a report: %w", plainly(err))
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Report{}, errors.New("not a report: text after the JSON object")
	}
	if err := hasKeys(data); err != nil {
		return Report{}, err
	}
	return r, r.check()
}

// plainly returns an error of encoding/json in terms of the JSON text, not of Go's types.
func plainly(err error) error {
	var mismatch *json.UnmarshalTypeError
	switch {
	case err == io.EOF:
		return errors.New("the file is empty")
	case errors.As(err, &mismatch) && mismatch.Field != "":
		return fmt.Errorf("%s: unexpected JSON %s", mismatch.Field, mismatch.Value)
	}
	return err
}

// hasKeys checks that no required key of the report or of a point is missing or null, which a decoded zero does not show.
func hasKeys(data []byte) error {
	var top map[string]json.RawMessage
	var points []map[string]json.RawMessage
	err := json.Unmarshal(data, &top)
	if err == nil {
		err = firstMissing("report", top, reflect.TypeFor[Report]())
	}
	if err == nil {
		err = json.Unmarshal(top["points"], &points)
	}
	for i, point := range points {
		where := fmt.Sprintf("points[%d]", i)
		if err == nil {
			err = firstMissing(where, point, reflect.TypeFor[Point]())
		}
		var metrics map[string]map[string]json.RawMessage
		if point["metrics"] != nil && err == nil {
			err = json.Unmarshal(point["metrics"], &metrics)
		}
		for _, name := range slices.Sorted(maps.Keys(metrics)) {
			if err == nil {
				err = firstMissing(where+".metrics."+name, metrics[name], reflect.TypeFor[Metric]())
			}
		}
	}
	return err
}

func firstMissing(where string, got map[string]json.RawMessage, want reflect.Type) error {
	for i := range want.NumField() {
		key, omit, _ := strings.Cut(want.Field(i).Tag.Get("json"), ",")
		if value, ok := got[key]; omit == "" && !ok || string(value) == "null" {
			return fmt.Errorf("%s: key %q is missing", where, key)
		}
	}
	return nil
}
