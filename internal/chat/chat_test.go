package chat

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ardanlabs/jinja"

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

// TestWhiteSpace: white space around tags is removed as Jinja2 3.1 removes it. testdata/whitespace.json holds templates of random tags and
// texts, and what ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True) renders for the messages below.
func TestWhiteSpace(t *testing.T) {
	text, err := os.ReadFile("testdata/whitespace.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases [][2]string
	if err := json.Unmarshal(text, &cases); err != nil || len(cases) < 30 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	messages := []any{map[string]any{"role": "user", "content": " Hi "}, map[string]any{"role": "assistant", "content": "yes\n"}}
	for _, c := range cases {
		text, _ := explicit(c[0])
		compiled, err := jinja.Compile(text)
		if err != nil {
			t.Fatalf("%q: %v", c[0], err)
		}
		tmpl := Template{compiled: compiled, tokens: map[string]string{"bos_token": "<s>"}}
		if got, err := tmpl.render(messages, nil, false); err != nil || got != c[1] {
			t.Errorf("%q: %q (%v), want %q", c[0], got, err, c[1])
		}
	}
}

// TestConversation has white space and other tags around what is generated.
func TestConversation(t *testing.T) {
	messages := []any{
		map[string]any{"role": "user", "content": "Hi"},
		map[string]any{"role": "assistant", "content": "a"},
		map[string]any{"role": "user", "content": "Go"},
		map[string]any{"role": "assistant", "content": "b"},
	}
	for _, c := range []struct{ template, want string }{
		{"{%- for m in messages -%}\n  {%- if m.role == 'assistant' -%}  {% generation %}  {{ m.content }}\n{% endgeneration %}\n{% else %}<{{ m.content }}>\n{% endif %}\n{% endfor %}", "<Hi>\n[  a\n]<Go>\n[  b\n]"},
		{"{% for m in messages %}{% if m.role == 'assistant' %}{%- generation -%} {{ m.content }} {%- endgeneration -%} | {% endif %}{% endfor %}", "[a]| [b]| "},
		{"{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}a:{% endif %}", "u:Hi;a:[a;]u:Go;a:[b;]"},
		{"{% for m in messages %}{{ m.content }}{% endfor %}", "Hi[a]Go[b]"},
		{"{% generation %}{% endgeneration %}{% for m in messages %}{{ m.content }}{% endfor %}", "HiaGob"},
	} {
		tmpl, err := Load(folder(t, c.template))
		if err != nil {
			t.Fatal(err)
		}
		text, spans, err := tmpl.Conversation(messages, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(spans) - 1; i >= 0; i-- {
			s := spans[i]
			text = text[:s.From] + "[" + text[s.From:s.To] + "]" + text[s.To:]
		}
		if text != c.want {
			t.Errorf("%q: %q, want %q", c.template, text, c.want)
		}
	}
}
