package cli

import (
	"bytes"
	"math"
	"runtime/debug"
	"testing"
)

func TestPrintJSON(t *testing.T) {
	type point struct {
		Loss  float64 `json:"loss"`
		Share float32 `json:"share,omitempty"`
		Next  *point  `json:"next"`
	}
	type report struct {
		Points []point `json:"points"`
	}
	nan, inf := math.NaN(), math.Inf(1)
	for _, test := range []struct {
		value     any
		want, err string
	}{
		{point{Loss: 1.5}, "{\n  \"loss\": 1.5,\n  \"next\": null\n}\n", ""},
		{map[string]float64{"kl": nan}, "", "kl is NaN, which JSON cannot represent"},
		{report{[]point{{}, {Loss: nan}}}, "", "points[1].loss is NaN, which JSON cannot represent"},
		{&point{Next: &point{Share: float32(inf)}}, "", "next.share is +Inf, which JSON cannot represent"},
		{[]any{1, nil, "x"}, "[\n  1,\n  null,\n  \"x\"\n]\n", ""},
	} {
		var out bytes.Buffer
		err := PrintJSON(&out, test.value)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if out.String() != test.want || message != test.err {
			t.Errorf("%v: %q, %q; want %q, %q", test.value, out.String(), message, test.want, test.err)
		}
	}
}

func TestOverBarErasesTheLine(t *testing.T) {
	var out bytes.Buffer
	if n, err := (overBar{&out}).Write([]byte("log\n")); n != 4 || err != nil || out.String() != eraseLine+"log\n" {
		t.Errorf("%d, %v, %q", n, err, out.String())
	}
}

func TestDescribeBuild(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26"}
	if got, want := describe(info), "(devel), go1.26"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	info.Main.Version = "v1.2.3"
	info.Settings = []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}}
	if got, want := describe(info), "v1.2.3, commit 0123456789ab, modified, go1.26"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":               "plain",
		"a\nb":                "a; b",
		"unknown:\n\n\tx\r\n": "unknown: x",
		"":                    "",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", in, got, want)
		}
	}
}
