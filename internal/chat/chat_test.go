package chat

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gqa/checkpoints/sample"
)

// folder returns a model folder with a template in tokenizer_config.json.
func folder(t *testing.T, template string) string {
	t.Helper()
	dir := t.TempDir()
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"chat_template": template, "eos_token": "<|endoftext|>"})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), config, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestPrompt: the constructs of published templates have the results that Jinja2 3.1 gives, with trim_blocks and lstrip_blocks as in transformers.
func TestPrompt(t *testing.T) {
	for template, want := range map[string]string{
		"{% for m in messages %}\n<|{{ m['role'] }}|>\n{{ m.content + eos_token }}\n    {% endfor %}\n{% if add_generation_prompt %}\n<|assistant|>\n{% endif %}\n": "<|user|>\n Hi <|endoftext|>\n<|assistant|>\n",
		"{%- set ns = namespace(n=0) %}{%- for m in messages[::-1] %}{% set ns.n = ns.n + 1 %}{%- endfor %}{{ ns.n }}{{ messages[-1].content | trim }}":             "1Hi",
		"{% macro turn(m) %}[{{ m.content.strip() }}]{% endmacro %}{{- turn(messages[0]) -}}  \n {%- if tools is not none and tools %} tools {%- endif %}":          "[Hi]",
		"{{ bos_token if bos_token is defined else 'none' }}{% if messages[0]['role'] == 'system' %}s{% elif not tools %}u{% endif %}{{ messages | length }}":       "noneu1",
	} {
		tmpl, err := Load(folder(t, template))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Prompt(" Hi "); err != nil || got != want {
			t.Errorf("%q: %q (%v), want %q", template, got, err, want)
		}
	}
}

func TestTemplateFiles(t *testing.T) {
	dir := folder(t, "old")
	if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte("new"), 0o666); err != nil {
		t.Fatal(err)
	}
	tmpl, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tmpl.Prompt(""); err != nil || got != "new" {
		t.Errorf("%q (%v)", got, err)
	}
	none := t.TempDir()
	if err := sample.Extract(none); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(none); !errors.Is(err, ErrNone) {
		t.Errorf("error %v", err)
	}
	if _, err := Load(folder(t, "{% for %}")); err == nil || !strings.Contains(err.Error(), "chat template: ") {
		t.Errorf("error %v", err)
	}
	tmpl, err = Load(folder(t, "{{ raise_exception('no system') }}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tmpl.Prompt("x"); err == nil || !strings.Contains(err.Error(), "no system") {
		t.Errorf("error %v", err)
	}
}
