package tokenizer

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The expressions in tokenizer.json are Oniguruma's; regexp2 implements .NET's. translation rewrites the differences:
// possessive quantifiers become atomic groups, nested classes are flattened, and \w, \h and POSIX brackets are
// expanded, as are the runes that (?i) makes equal, since regexp2 only compares lower-case forms.
type translation struct {
	in     string
	at     int // position in in
	out    strings.Builder
	atom   int     // start in out of what a quantifier would repeat
	fold   bool    // (?i) is in effect
	groups []group // open groups
}

type group struct {
	start int  // its start in out
	fold  bool // whether (?i) is in effect outside it
}

// Oniguruma's POSIX brackets (section 6 of its doc/RE) as parts of a class.
const (
	alphaClass = `\p{L}\p{Nl}\p{Other_Alphabetic}`
	wordClass  = alphaClass + `\p{M}\p{Nd}\p{Pc}`
	hexClass   = `0-9a-fA-F`
)

var posixClass = map[string]string{
	"alpha": alphaClass, "alnum": alphaClass + `\p{Nd}`, "digit": `\p{Nd}`, "word": wordClass, "xdigit": hexClass,
	"lower": `\p{Ll}\p{Other_Lowercase}`, "upper": `\p{Lu}\p{Other_Uppercase}`, "punct": `\p{P}\p{S}`,
	"space": `\s`, "blank": `\p{Zs}\t`, "cntrl": `\p{Cc}`, "ascii": `\x00-\x7f`,
}

// Runes that \w matches besides wordClass outside a class: Oniguruma uses a separate table for runes below U+0100.
const latin1Word = "²³¹¼½¾"

var (
	groupStart = regexp.MustCompile(`^\(\?(?:([imx]*)(?:-([imx]*))?([:)])|<\w+>)`)
	anyEscape  = regexp.MustCompile(`(?s)\\(?:[pPx]\{[^}]*\}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|k<\w+>|.)`)
	escapeForm = regexp.MustCompile(`^` + anyEscape.String())
	posixForm  = regexp.MustCompile(`^\[:(\^?[a-z]+):\]`)
	classRange = regexp.MustCompile(`(?s)^([^\\\[\]])(?:-([^\\\[\]]))?`)
)

// dotNet translates Oniguruma's flags into .NET's: i is expanded, and m, which makes a dot match newlines, is .NET's s.
var dotNet = strings.NewReplacer("i", "", "m", "s")

func translate(expr string) (string, error) {
	t := translation{in: letters(expr)}
	for t.at < len(t.in) {
		if err := t.step(); err != nil {
			return "", fmt.Errorf("pattern %q: %w", expr, err)
		}
	}
	return t.out.String(), nil
}

// letters replaces escapes that stand for letters, such as \x6b, by the letters, so that case expansion applies to them
// too.
func letters(expr string) string {
	return anyEscape.ReplaceAllStringFunc(expr, func(s string) string {
		if s[1] != 'x' && s[1] != 'u' {
			return s
		}
		r, err := strconv.ParseInt(strings.Trim(s[2:], "{}"), 16, 32)
		if err != nil || unicode.SimpleFold(rune(r)) == rune(r) {
			return s
		}
		return string(rune(r))
	})
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
	case c == '(':
		t.open()
	case c == ')' && len(t.groups) > 0:
		g := t.groups[len(t.groups)-1]
		t.groups = t.groups[:len(t.groups)-1]
		t.atom, t.fold = g.start, g.fold
		t.copy(1)
	case strings.IndexByte("{}|", c) >= 0:
		t.copy(1)
	default:
		t.literal()
	}
	return nil
}

func (t *translation) copy(n int) {
	t.out.WriteString(t.in[t.at : t.at+n])
	t.at += n
}

// open translates the start of a group. Flags without a group, as in (?i), apply until the end of the enclosing group.
func (t *translation) open() {
	m := groupStart.FindStringSubmatch(t.in[t.at:])
	if m == nil || m[3] != ")" {
		t.groups = append(t.groups, group{t.out.Len(), t.fold})
	}
	switch {
	case m == nil && strings.HasPrefix(t.in[t.at:], "(?"):
		t.copy(2) // as in (?=, where ? is not a quantifier
	case m == nil:
		t.copy(1)
	case m[3] == "":
		t.copy(len(m[0]))
	default:
		t.at += len(m[0])
		t.flags(m[1], m[2], m[3])
	}
}

func (t *translation) flags(on, off, end string) {
	t.fold = (t.fold || strings.Contains(on, "i")) && !strings.Contains(off, "i")
	flags := dotNet.Replace(on)
	if off = dotNet.Replace(off); off != "" {
		flags += "-" + off
	}
	if flags != "" || end == ":" {
		t.out.WriteString("(?" + flags + end)
	}
}

// literal copies a rune, with its other cases if case is ignored.
func (t *translation) literal() {
	t.atom = t.out.Len()
	r, n := utf8.DecodeRuneInString(t.in[t.at:])
	if others := otherCases(r, r); t.fold && others != "" {
		t.out.WriteString("[" + string(r) + others + "]")
		t.at += n
		return
	}
	t.copy(n)
}

// otherCases returns the runes outside first–last that differ only in case from one within (Unicode's simple case
// folding).
func otherCases(first, last rune) string {
	var b strings.Builder
	for r := first; r <= last; r++ {
		for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
			if o < first || o > last {
				b.WriteRune(o)
			}
		}
	}
	return b.String()
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

// escape reads a backslash and the escape after it.
func (t *translation) escape(inClass bool) (string, error) {
	s := escapeForm.FindString(t.in[t.at:])
	if s == "" {
		return "", errors.New(`\ at the end`)
	}
	t.at += len(s)
	switch {
	case s == `\w` && inClass:
		return wordClass, nil
	case s == `\h` && inClass:
		return hexClass, nil
	case s == `\w`:
		return "[" + wordClass + latin1Word + "]", nil
	case s == `\W` && !inClass:
		return "[^" + wordClass + latin1Word + "]", nil
	case s == `\h`:
		return "[" + hexClass + "]", nil
	}
	return s, nil
}

// class reads a class after its [ and returns the text between the brackets.
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
	case strings.HasPrefix(rest, "[^"):
		return "", errors.New("a negated class within a class is not supported")
	}
	if m := posixForm.FindStringSubmatch(rest); m != nil {
		t.at += len(m[0])
		if set := posixClass[m[1]]; set != "" {
			return set, nil
		}
		return "", fmt.Errorf("%s is not supported", m[0])
	}
	if rest[0] == '[' {
		t.at++
		return t.class()
	}
	return t.span(), nil
}

// span reads a rune or a range of runes in a class.
func (t *translation) span() string {
	m := classRange.FindStringSubmatch(t.in[t.at:])
	t.at += len(m[0])
	if !t.fold {
		return m[0]
	}
	first, _ := utf8.DecodeRuneInString(m[1])
	last, n := utf8.DecodeRuneInString(m[2])
	if n == 0 {
		last = first
	}
	return m[0] + otherCases(first, last)
}
