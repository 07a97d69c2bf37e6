package configs

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLimits gives every size of every family values that no checkpoint has: an error in one line, soon, and no panic.
func TestLimits(t *testing.T) {
	families, err := Families()
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{}
	for i := range 12 {
		shapes[fmt.Sprint("tensor.", i)] = []int{4, 4}
	}
	values := []string{"-1", "0", "0.5", "2147483648", "1073741824", "4611686018427387904", "1e300", "1e400", "-1e400", `"8"`, "true", "[8]", "{}"}
	for _, f := range families {
		for _, k := range fields {
			if strings.IndexByte("ictwpn", k.kind) < 0 {
				continue
			}
			for _, key := range f.Config[k.name].Keys {
				for _, value := range values {
					if k.kind == 'i' && f.Config[k.name].If == "" && slices.Contains(values[:4], value) {
						wantRefused(t, f, key, value, shapes)
						continue
					}
					tryLimit(t, f, key, value, shapes)
				}
			}
		}
	}
}

func tryLimit(t *testing.T, f *Family, key, value string, shapes map[string][]int) error {
	t.Helper()
	start := time.Now()
	parts := strings.Split(key, ".")
	inner := value
	for i := len(parts) - 1; i >= 0; i-- {
		inner = fmt.Sprintf("{%q: %s}", parts[i], inner)
	}
	config := strings.Replace(inner, "{", fmt.Sprintf(`{"model_type": %q, `, f.ModelTypes[0]), 1)
	a, err := Resolve([]byte(config), "")
	if err == nil {
		err = a.Bind(shapes)
	}
	if err == nil || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "Go value") {
		t.Errorf("%s: error %v, want one line", config, err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("%s: %v", config, took)
	}
	return err
}

// wantRefused checks that the error names the key.
func wantRefused(t *testing.T, f *Family, key, value string, shapes map[string][]int) {
	t.Helper()
	if err := tryLimit(t, f, key, value, shapes); err == nil || !strings.Contains(err.Error(), key) {
		t.Errorf("%s: %s is %s: error %v, want one that names the key", f.Name, key, value, err)
	}
}

func TestSizesTogether(t *testing.T) {
	for key, want := range map[string]string{
		`"vocab_size": 1073741824, "hidden_size": 1073741824, "num_attention_heads": 4`:                      "the embedding matrix would have 1073741824 × 1073741824 numbers",
		`"hidden_size": 1048576, "intermediate_size": 1073741824, "num_attention_heads": 4, "vocab_size": 1`: "the feed-forward matrix",
		`"num_attention_heads": 1073741824, "head_dim": 1073741824`:                                          "the query matrix",
	} {
		_, err := Resolve([]byte(`{"model_type": "llama", `+key+`}`), "")
		wantError(t, err, want)
	}
	a := resolve(t, `{"model_type": "stablelm", "qk_layernorm": true, "hidden_size": 1048576, "num_attention_heads": 1048576, "num_hidden_layers": 1, "vocab_size": 1}`)
	wantError(t, a.Bind(map[string][]int{"a": nil}), "config.json asks for 1048576 heads with a ")
}
