package text

import (
	"errors"
	"fmt"
	"strings"
)

// The expressions of tokenizer.json are Oniguruma's; regexp2 reads .NET's.
// translation rewrites what differs: possessive quantifiers become atomic
// groups, classes within classes are laid flat, \w, \h and POSIX brackets are
// spelled out.
type translation struct {
	in     string
	at     int // up to here in is read
	out    strings.Builder
	atom   int   // where in out what a quantifier would repeat starts
	groups []int // where in out the open groups start
}

// Oniguruma's \w, and what its POSIX brackets hold, as parts of a class.
const wordClass = `\p{L}\p{M}\p{Nd}\p{Pc}`

var posixClass = map[string]string{
	"alpha": `\p{L}\p{M}`, "alnum": `\p{L}\p{M}\p{Nd}`, "digit": `\p{Nd}`, "lower": `\p{Ll}`, "upper": `\p{Lu}`,
	"punct": `\p{P}\p{S}`, "space": `\s`, "word": wordClass, "xdigit": `0-9a-fA-F`, "cntrl": `\p{Cc}`, "blank": `\p{Zs}\t`,
}

func translate(expr string) (string, error) {
	t := translation{in: expr}
	for t.at < len(t.in) {
		if err := t.step(); err != nil {
			return "", fmt.Errorf("pattern %q: %w", expr, err)
		}
	}
	return t.out.String(), nil
}

// step translates one element.
func (t *translation) step() error {
	c := t.in[t.at]
	switch {
	case c == '\\':
		t.atom = t.out.Len()
		s, err := t.escape(false)
		t.out.WriteString(s)
		return err
	case c == '[':
		t.atom = t.out.Len()
		t.at++
		s, err := t.class()
		t.out.WriteString("[" + s + "]")
		return err
	case strings.IndexByte("*+?", c) >= 0:
		t.quantifier()
		return nil
	case c == '(':
		t.groups = append(t.groups, t.out.Len())
	case c == ')' && len(t.groups) > 0:
		t.atom = t.groups[len(t.groups)-1]
		t.groups = t.groups[:len(t.groups)-1]
	case c < 0x80 && c != '{' && c != '}' && c != '|':
		t.atom = t.out.Len()
	case c >= 0xc0: // the first byte of a rune
		t.atom = t.out.Len()
	}
	t.copy(1)
	if strings.HasPrefix(t.in[t.at:], "?") && c == '(' {
		t.copy(1) // part of the group, not a quantifier
	}
	return nil
}

func (t *translation) copy(n int) {
	t.out.WriteString(t.in[t.at : t.at+n])
	t.at += n
}

// quantifier copies one of * + ?, lazy or possessive.
func (t *translation) quantifier() {
	t.copy(1)
	switch {
	case strings.HasPrefix(t.in[t.at:], "?"):
		t.copy(1)
	case strings.HasPrefix(t.in[t.at:], "+"):
		t.at++
		s := t.out.String()
		t.out.Reset()
		t.out.WriteString(s[:t.atom] + "(?>" + s[t.atom:] + ")")
	}
}

// escape reads a backslash and what belongs to it.
func (t *translation) escape(inClass bool) (string, error) {
	if t.at+1 == len(t.in) {
		return "", errors.New(`\ at the end`)
	}
	s := t.in[t.at : t.at+2]
	t.at += 2
	switch {
	case s == `\w` && inClass:
		return wordClass, nil
	case s == `\h` && inClass:
		return "0-9a-fA-F", nil
	case s == `\w`:
		return "[" + wordClass + "]", nil
	case s == `\W` && !inClass:
		return "[^" + wordClass + "]", nil
	case s == `\h`:
		return "[0-9a-fA-F]", nil
	}
	if end := strings.IndexByte(t.in[t.at:], '}'); end >= 0 && t.in[t.at] == '{' && strings.Contains(`\p\P\x`, s) {
		t.at += end + 1
		return s + t.in[t.at-end-1:t.at], nil
	}
	return s, nil
}

// class reads a class after its [ and returns what stands between brackets.
func (t *translation) class() (string, error) {
	var b strings.Builder
	if strings.HasPrefix(t.in[t.at:], "^") {
		t.at++
		b.WriteByte('^')
	}
	if strings.HasPrefix(t.in[t.at:], "]") {
		t.at++
		b.WriteString(`\]`)
	}
	for t.at < len(t.in) {
		if t.in[t.at] == ']' {
			t.at++
			return b.String(), nil
		}
		s, err := t.member()
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return "", errors.New("class without its ]")
}

// member reads one part of a class.
func (t *translation) member() (string, error) {
	rest := t.in[t.at:]
	switch {
	case rest[0] == '\\':
		return t.escape(true)
	case strings.HasPrefix(rest, "&&"):
		return "", errors.New("intersections of classes (&&) are not supported")
	case strings.HasPrefix(rest, "[:"):
		name, _, ok := strings.Cut(rest[2:], ":]")
		if set := posixClass[name]; ok && set != "" {
			t.at += len(name) + 4
			return set, nil
		}
	case strings.HasPrefix(rest, "[^"):
		return "", errors.New("a negated class within a class is not supported")
	}
	t.at++
	if rest[0] == '[' {
		return t.class()
	}
	return rest[:1], nil
}
