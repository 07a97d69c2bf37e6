package tasks

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"

	"gqa/checkpoints/sample"
)

// Sizes of the tasks that are made of the sample's text.
const (
	identifierItems   = 150
	bracketItems      = 50 // of each kind
	continuationItems = 100

	contextBytes  = 400 // of an item, at most
	functionBytes = 120 // of a function's beginning
)

// sampleTasks returns the tasks that are made of the sample's held-out text: Go source files. They are the same each time.
var sampleTasks = sync.OnceValues(func() ([]*Task, error) {
	text, err := sample.Corpus("val")
	if err != nil {
		return nil, err
	}
	files := strings.Split(string(text), "<|endoftext|>")
	plain := []string{"acc"}
	return []*Task{
		{Name: "identifiers", Metrics: plain, Items: identifiers(files)},
		{Name: "brackets", Metrics: plain, Items: brackets(files)},
		{Name: "continuation", Metrics: plain, Items: continuations(files)},
	}, nil
})

// source returns the random numbers that choose items.
func source() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }

// before returns what precedes a position of a text, from the beginning of a line on.
func before(text string, at int) string {
	from := max(0, at-contextBytes)
	if from > 0 {
		if line := strings.IndexByte(text[from:at], '\n'); line >= 0 {
			from += line + 1
		}
	}
	return text[from:at]
}

// shuffled returns an item with choices in a random order, of which the first one given is right.
func shuffled(r *rand.Rand, context string, choices ...string) Item {
	it := Item{Context: context}
	for i, j := range r.Perm(len(choices)) {
		it.Choices = append(it.Choices, choices[j])
		if j == 0 {
			it.Answer = i
		}
	}
	return it
}

var selector = regexp.MustCompile(`\.([A-Za-z]{4,})\b`)

// identifiers asks for the identifier after a period: it and three others come up before it.
func identifiers(files []string) (all []Item) {
	r := source()
	for len(all) < identifierItems {
		file := files[r.IntN(len(files))]
		found := selector.FindAllStringSubmatchIndex(file, -1)
		if len(found) == 0 {
			continue
		}
		at := found[r.IntN(len(found))][2:]
		context, name := before(file, at[0]), file[at[0]:at[1]]
		var names []string
		for _, m := range selector.FindAllStringSubmatch(context, -1) {
			if !slices.Contains(names, m[1]) {
				names = append(names, m[1])
			}
		}
		others := slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == name || strings.HasPrefix(s, name) || strings.HasPrefix(name, s) })
		if !slices.Contains(names, name) || len(others) < 3 {
			continue
		}
		r.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		all = append(all, shuffled(r, context, append([]string{name}, others[:3]...)...))
	}
	return all
}

// closing are the brackets by those that they close.
var closing = map[byte]byte{'(': ')', '[': ']', '{': '}'}

// wordy matches a text whose last word ends it, before white space: no bracket forms one token with it.
var wordy = regexp.MustCompile(`[A-Za-z0-9]\s*$`)

// brackets asks which bracket comes next. What it closes was opened at least 10 bytes before. Each kind comes equally often.
func brackets(files []string) (all []Item) {
	r, taken := source(), map[byte]int{}
	for len(all) < len(closing)*bracketItems {
		file := files[r.IntN(len(files))]
		pairs := pairsOf(file)
		if len(pairs) == 0 {
			continue
		}
		p := pairs[r.IntN(len(pairs))]
		kind, context := file[p[1]], before(file, p[1])
		if near := p[1] - p[0]; near < 10 || near >= len(context) || taken[kind] == bracketItems || !wordy.MatchString(context) {
			continue
		}
		taken[kind]++
		all = append(all, Item{Context: context, Choices: []string{")", "]", "}"}, Answer: strings.IndexByte(")]}", kind)})
	}
	shuffle(all, 1) // so that the first ones are of all kinds
	return all
}

// pairsOf returns the positions of brackets that belong together. In a line with quotes or a comment there are none: brackets in these
// need not be in pairs.
func pairsOf(file string) (pairs [][2]int) {
	var open []int
	at := 0
	for line := range strings.Lines(file) {
		if strings.ContainsAny(line, "\"'`") || strings.Contains(line, "//") {
			open = nil
		} else {
			for i := range len(line) {
				switch c := line[i]; c {
				case '(', '[', '{':
					open = append(open, at+i)
				case ')', ']', '}':
					if n := len(open); n > 0 && closing[file[open[n-1]]] == c {
						pairs, open = append(pairs, [2]int{open[n-1], at + i}), open[:n-1]
					} else {
						open = nil
					}
				}
			}
		}
		at += len(line)
	}
	return pairs
}

// continuations asks which of four functions continues a file. The others are from other files.
func continuations(files []string) (all []Item) {
	r := source()
	type function struct {
		file, at int
		text     string
	}
	var functions []function
	for i, file := range files {
		for at := 0; ; {
			next := strings.Index(file[at:], "\nfunc ")
			if next < 0 {
				break
			}
			at += next + 1
			if end := at + functionBytes; at > contextBytes && end < len(file) {
				functions = append(functions, function{i, at, strings.ToValidUTF8(file[at:end], "")})
			}
		}
	}
	for len(all) < continuationItems {
		right := functions[r.IntN(len(functions))]
		choices := []string{right.text}
		for len(choices) < 4 {
			if other := functions[r.IntN(len(functions))]; other.file != right.file && !slices.Contains(choices, other.text) {
				choices = append(choices, other.text)
			}
		}
		all = append(all, shuffled(r, before(files[right.file], right.at), choices...))
	}
	return all
}
