package chat

import "strings"

// explicit returns a template with the same result whose text outside tags is written by expressions and which has no signs for white
// space: that has been removed as Jinja's lexer does with trim_blocks and lstrip_blocks, and without the line feed at the end. The
// library looks for the next text beyond other tags. Tags around what the model generates write marks; marked reports whether there
// are any.
func explicit(template string) (text string, marked bool) {
	l := lexer{rest: strings.TrimSuffix(strings.ReplaceAll(template, "\r\n", "\n"), "\n"), lineStart: true}
	for l.next() {
	}
	return l.out.String(), l.marked
}

// lexer splits a template into text and tags.
type lexer struct {
	rest      string
	out       strings.Builder
	lineStart bool // the text begins at the start of a line
	marked    bool
}

const space = " \t\n\r\f\v"

// next processes the text before the next tag, and the tag. It reports whether there was one.
func (l *lexer) next() bool {
	at := tagAt(l.rest)
	if at < 0 {
		l.write(l.rest)
		return false
	}
	text, tag := l.rest[:at], l.rest[at:]
	kind, end := tag[1], tagEnd(tag)
	inner, after := tag[2:end], tag[min(end+2, len(tag)):]
	inner, sign := cutSign(inner, true)
	switch {
	case sign == '-':
		text = strings.TrimRight(text, space)
	case sign != '+' && kind != '{':
		if line := strings.LastIndexByte(text, '\n') + 1; (line > 0 || l.lineStart) && strings.Trim(text[line:], space) == "" {
			text = text[:line]
		}
	}
	l.write(text)
	inner, sign = cutSign(inner, false)
	l.lineStart = false
	switch {
	case sign == '-':
		trimmed := strings.TrimLeft(after, space)
		l.lineStart = strings.HasSuffix(after[:len(after)-len(trimmed)], "\n")
		after = trimmed
	case sign != '+' && kind != '{':
		after, l.lineStart = strings.CutPrefix(after, "\n")
	}
	l.tag(kind, inner)
	l.rest = after
	return true
}

// tagAt returns the position of the next tag; -1 if there is none.
func tagAt(s string) int {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '{' && strings.IndexByte("{%#", s[i+1]) >= 0 {
			return i
		}
	}
	return -1
}

// tagEnd returns the position of the end of a tag that s begins with. Strings in it may hold what looks like one.
func tagEnd(s string) int {
	ends := map[byte]string{'{': "}}", '%': "%}", '#': "#}"}[s[1]]
	quote, depth := byte(0), 0
	for i := 2; i+1 < len(s); i++ {
		switch c := s[i]; {
		case s[1] == '#':
			if strings.HasPrefix(s[i:], ends) {
				return i
			}
		case quote != 0 && c == '\\':
			i++
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case depth == 0 && strings.HasPrefix(s[i:], ends):
			return i
		case c == '{':
			depth++
		case c == '}':
			depth--
		}
	}
	return len(s)
}

// cutSign cuts the sign for white space off the beginning or the end of a tag; 0 if there is none.
func cutSign(inner string, first bool) (rest string, sign byte) {
	switch {
	case inner == "":
		return inner, 0
	case first && (inner[0] == '-' || inner[0] == '+'):
		return inner[1:], inner[0]
	case !first && (inner[len(inner)-1] == '-' || inner[len(inner)-1] == '+'):
		return inner[:len(inner)-1], inner[len(inner)-1]
	}
	return inner, 0
}

// tag writes a tag, without a comment.
func (l *lexer) tag(kind byte, inner string) {
	switch name := strings.Trim(inner, space); {
	case kind == '{':
		l.out.WriteString("{{" + inner + "}}")
	case kind == '%' && name == "generation":
		l.marked = true
		l.write(beginMark)
	case kind == '%' && name == "endgeneration":
		l.write(endMark)
	case kind == '%':
		l.out.WriteString("{%" + inner + "%}")
	}
}

// write writes expressions for a text. The library takes the end of a tag within a string for the tag's, so none is.
func (l *lexer) write(text string) {
	for text != "" {
		n := len(text)
		for _, end := range []string{"}}", "%}", "#}"} {
			if i := strings.Index(text[:n], end); i >= 0 {
				n = i + 1
			}
		}
		l.out.WriteString(`{{ "` + quoted.Replace(text[:n]) + `" }}`)
		text = text[n:]
	}
}

var quoted = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`)
