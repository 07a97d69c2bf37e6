package data

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gqa/checkpoints/sample"
	"gqa/internal/tokenizer"
)

const (
	plainTemplate = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
	markTemplate  = "{% for m in messages %}<{{ m['role'] }}>{% if m['role'] == 'assistant' %}\n  {%- generation %}{{ m['content'] }}!{% endgeneration %}\n\n" +
		"{% else %}{{ m['content'] }}\n{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
	// forgetTemplate keeps only the last answer's first word, as templates do that drop reasoning from earlier answers.
	forgetTemplate = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] if loop.last else 'x' }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)

// chatModel returns a model folder with a template; "" is none.
func chatModel(t *testing.T, template string) string {
	t.Helper()
	dir := t.TempDir()
	if err := sample.Extract(dir); err != nil {
		t.Fatal(err)
	}
	if template != "" {
		if err := os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(template), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func chatEncoder(t *testing.T, template string) *encoder {
	t.Helper()
	return newEncoder(chatModel(t, template), loadGopher(t), 0, false)
}

// learned returns the text of tokens with what is learned in brackets.
func learned(t *testing.T, tok *tokenizer.Tokenizer, tokens []int32) string {
	t.Helper()
	var b strings.Builder
	in := false
	for _, token := range append(slices.Clone(tokens), unlearned) {
		if now := token >= 0; now != in {
			b.WriteByte("]["[map[bool]int{true: 1}[now]])
			in = now
		}
		text, err := tok.Decode([]int32{ID(token)})
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(text)
	}
	return strings.TrimSuffix(b.String(), tok.Token(0))
}

func TestConversations(t *testing.T) {
	tok := loadGopher(t)
	for _, c := range []struct{ name, template, row, want string }{
		{
			"messages", plainTemplate,
			`{"messages":[{"role":"system","content":"Be."},{"role":"user","content":"Hi"},{"role":"assistant","content":"func main"},{"role":"user","content":"More"},{"role":"assistant","content":"return nil"}]}`,
			"<system>Be.\n<user>Hi\n<assistant>[func main\n]<user>More\n<assistant>[return nil\n]",
		},
		{
			"conversations", plainTemplate,
			`{"id":1,"conversations":[{"from":"human","value":"Hi"},{"from":"gpt","value":"func main"}]}`,
			"<user>Hi\n<assistant>[func main\n]",
		},
		{
			"conversations of messages", plainTemplate, `{"conversations":[{"role":"user","content":"Hi"},{"role":"assistant","content":"yes"}]}`,
			"<user>Hi\n<assistant>[yes\n]",
		},
		{"marks", markTemplate, `{"messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"func main"}]}`, "<user>Hi\n<assistant>[func main!]\n"},
		{
			"texts", markTemplate, `{"prompt":"Hi","completion":"func main"}`,
			"<user>Hi\n<assistant>[func main!]\n",
		},
		{"texts without a template", "", `{"prompt":"func main() ","completion":"{}"}`, "func main()[ {}<|endoftext|>]"},
		{
			"lists", plainTemplate,
			`{"prompt":[{"role":"user","content":"Hi"},{"role":"assistant","content":"a"},{"role":"user","content":"Go"}],"completion":[{"role":"assistant","content":"b"}]}`,
			"<user>Hi\n<assistant>a\n<user>Go\n<assistant>[b\n]",
		},
		{
			"lists with marks", markTemplate,
			`{"prompt":[{"role":"user","content":"Hi"},{"role":"assistant","content":"a"},{"role":"user","content":"Go"}],"completion":[{"role":"assistant","content":"b"}]}`,
			"<user>Hi\n<assistant>a!\n<user>Go\n<assistant>[b!]\n",
		},
		{"messages before prompt", plainTemplate, `{"prompt":"x","completion":"y","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"z"}]}`, "<user>Hi\n<assistant>[z\n]"},
		{"a text before messages", plainTemplate, `{"messages":[{"role":"user","content":"Hi"}],"text":"func"}`, "[func<|endoftext|>]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(tree(t, map[string]string{"a.jsonl": c.row}), "a.jsonl")
			if got := learned(t, tok, tokensOf(t, path, chatEncoder(t, c.template))); got != c.want {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

// A table of conversations gives the tokens of the same rows as JSON, which are those of the rendered text.
func TestChatTable(t *testing.T) {
	e := chatEncoder(t, markTemplate)
	table := filepath.Join(field, "parquet-chat/chat.parquet")
	f := diskFile(table, 0)
	r, err := f.open([]string{"messages"})
	if err != nil {
		t.Fatal(err)
	}
	var rows []any
	var want []int32
	for d := json.NewDecoder(r); d.More(); {
		var row struct {
			Messages []any `json:"messages"`
		}
		if err := d.Decode(&row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, map[string]any{"id": len(rows), "messages": row.Messages})
		template, err := e.template()
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := template.Conversation(row.Messages, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, must(e.tok.EncodePlain)(text)...)
	}
	got := tokensOf(t, table, e)
	same := tokensOf(t, filepath.Join(tree(t, map[string]string{"a.jsonl.zst": packed(t, jsonLines(t, rows))}), "a.jsonl.zst"), e)
	if len(rows) < 5 || !slices.Equal(got, same) || !slices.Equal(IDs(got), want) {
		t.Errorf("%d rows: %d tokens in the table, %d as JSON, %d in the text", len(rows), len(got), len(same), len(want))
	}
	said := 0
	for _, token := range got {
		if token >= 0 {
			said++
		}
	}
	if said == 0 || said == len(got) {
		t.Errorf("%d of %d tokens are learned", said, len(got))
	}
}

func TestBadConversations(t *testing.T) {
	for _, c := range []struct{ template, row, want string }{
		{plainTemplate, `{"messages":"x"}`, `"messages" is not a list of messages`},
		{plainTemplate, `{"messages":["x"]}`, `"messages": message 0 is not an object`},
		{plainTemplate, `{"messages":[{"content":"x"}]}`, "message 0 has neither role and content nor from and value"},
		{plainTemplate, `{"conversations":[{"from":"nobody","value":"x"}]}`, `message 0 is from "nobody", want human, gpt, system or tool`},
		{plainTemplate, `{"messages":[{"role":"user","content":"x"}]}`, "has no message of the assistant"},
		{plainTemplate, `{"prompt":"x"}`, `the record has no "text"; its keys are "prompt"`},
		{"{{ raise_exception('roles must alternate') }}", `{"messages":[{"role":"assistant","content":"x"}]}`, "roles must alternate"},
		{forgetTemplate, `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`, "mark it in the template with {% generation %}"},
		{"", `{"messages":[{"role":"assistant","content":"x"}]}`, "the corpus has conversations"},
		{plainTemplate, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"\ufdd0\"}]}", "which Unicode reserves"},
	} {
		c1, err := openCorpus(t.Context(), filepath.Join(tree(t, map[string]string{"a.jsonl": c.row}), "a.jsonl"), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c1.Tokens(t.Context(), chatEncoder(t, c.template), 0); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", c.row, err, c.want)
		}
	}
}

// Tokens end in order, in the text, and where those of a tokenizer that changes nothing say.
func TestEnds(t *testing.T) {
	paths, err := filepath.Glob("../tokenizer/testdata/tokenizers/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no tokenizers: %v", err)
	}
	text := "<user> func main() {\n\treturn nil // é\n}\n\n<assistant>Hello World"
	for _, path := range append(paths, gopher) {
		tok, err := tokenizer.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		e := &encoder{tok: tok}
		ids := must(tok.EncodePlain)(text)
		for _, find := range []func(string, []int32) ([]int, error){e.ends, e.endsBySearch} {
			ends, err := find(text, ids)
			if err != nil {
				t.Fatal(err)
			}
			at := strings.Index(text, "<assistant>") // nothing before it may be taken for an answer
			n := len(must(tok.EncodePlain)(text[:at]))
			if !slices.IsSorted(ends) || ends[len(ends)-1] > len(text) || ends[n-1] > at || ends[n+1] <= at {
				t.Errorf("%s: tokens end at %v of %d; %d end before %d", path, ends, len(text), n, at)
			}
		}
	}
}

// TestMasks compares conversations' tokens, and which of them are learned, with apply_chat_template(…, return_assistant_tokens_mask=True) of
// transformers 5.17 for the sample's tokenizer. testdata/masks.json holds them by template and conversation; ^ID is not learned.
func TestMasks(t *testing.T) {
	text, err := os.ReadFile("testdata/masks.json")
	if err != nil {
		t.Fatal(err)
	}
	var held struct {
		Templates map[string]string
		Talks     map[string]json.RawMessage
		Cases     map[string]map[string][]int32
	}
	if err := json.Unmarshal(text, &held); err != nil || len(held.Cases) < 4 {
		t.Fatalf("%d cases, %v", len(held.Cases), err)
	}
	for template, talks := range held.Cases {
		e := chatEncoder(t, held.Templates[template])
		for name, want := range talks {
			row := `{"messages":` + string(held.Talks[name]) + `}`
			got := tokensOf(t, filepath.Join(tree(t, map[string]string{"a.jsonl": row}), "a.jsonl"), e)
			for i, token := range got {
				if token < 0 {
					got[i] = ^ID(token)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, %s: %v\nwant %v", template, name, got, want)
			}
		}
	}
}
