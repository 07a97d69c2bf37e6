package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
)

// template adds special tokens around the IDs of a text.
type template struct{ before, after []int32 }

func (t template) apply(ids []int32) []int32 {
	out := make([]int32, 0, len(t.before)+len(ids)+len(t.after))
	out = append(out, t.before...)
	out = append(out, ids...)
	return append(out, t.after...)
}

// parsePost parses a post_processor into the templates that it applies in turn.
func parsePost(raw json.RawMessage) ([]template, error) {
	kind, err := kindOf(raw)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "", "ByteLevel": // only changes offsets
		return nil, nil
	case "Sequence":
		return parseSequence(raw, "processors", parsePost)
	case "TemplateProcessing":
		return parseTemplate(raw)
	case "BertProcessing", "RobertaProcessing":
		return parseClsSep(raw)
	}
	return nil, unknownType(kind)
}

// tokenAndID decodes ["<s>", 0].
type tokenAndID struct{ id int32 }

func (t *tokenAndID) UnmarshalJSON(data []byte) error {
	var list []json.RawMessage
	if unmarshal(data, &list) != nil || len(list) != 2 {
		return fmt.Errorf("special token is %s: expected a token and its ID", data)
	}
	return unmarshal(list[1], &t.id)
}

func parseClsSep(raw json.RawMessage) ([]template, error) {
	var f struct{ Cls, Sep *tokenAndID }
	if err := unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if f.Cls == nil || f.Sep == nil {
		return nil, errors.New("cls or sep is missing")
	}
	return []template{{[]int32{f.Cls.id}, []int32{f.Sep.id}}}, nil
}

// templatePart is {"SpecialToken": {"id": "<s>"}} or {"Sequence": {"id": "A"}}.
type templatePart struct {
	SpecialToken *struct {
		ID string `json:"id"`
	}
	Sequence *struct {
		ID string `json:"id"`
	}
}

type templateFile struct {
	Single  []templatePart `json:"single"`
	Special map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
}

func parseTemplate(raw json.RawMessage) ([]template, error) {
	var f templateFile
	if err := unmarshal(raw, &f); err != nil {
		return nil, err
	}
	var t template
	side, texts := &t.before, 0
	for _, part := range f.Single {
		switch {
		case part.SpecialToken != nil:
			token, ok := f.Special[part.SpecialToken.ID]
			if !ok {
				return nil, fmt.Errorf("template names %q, which special_tokens lacks", part.SpecialToken.ID)
			}
			*side = append(*side, token.IDs...)
		case part.Sequence != nil:
			side, texts = &t.after, texts+1
		}
	}
	if texts != 1 {
		return nil, fmt.Errorf("template for a single text has the text %d times: expected once", texts)
	}
	return []template{t}, nil
}
