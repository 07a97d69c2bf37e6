package score

import "strings"

// Overlap is what a prediction has in common with a reference: as a share of the prediction, as a share of the reference,
// and the harmonic mean of both.
type Overlap struct{ Precision, Recall, F float64 }

// overlap returns the Overlap for a number of common elements of sets of the given sizes.
func overlap(common, prediction, reference int) Overlap {
	if common == 0 {
		return Overlap{}
	}
	p, r := float64(common)/float64(prediction), float64(common)/float64(reference)
	return Overlap{p, r, 2 * p * r / (p + r)}
}

// ROUGE computes the scores of Lin, "ROUGE: A Package for Automatic Evaluation of Summaries" (2004), as Google's
// rouge-score does. Of several references, the one with the largest F counts. Words are runs of ASCII letters and digits;
// text in other scripts scores 0.
type ROUGE struct {
	Stem bool // compare the stems of words (Porter's), which is customary for summaries
}

// N returns ROUGE-n, the overlap of sequences of n words. n is at least 1.
func (r ROUGE) N(n int, prediction string, references []string) Overlap {
	p := grams(r.words(prediction), n)
	return best(references, func(reference string) Overlap {
		q := grams(r.words(reference), n)
		return overlap(shared(p, q), len(p), len(q))
	})
}

// L returns ROUGE-L, the longest common subsequence of words.
func (r ROUGE) L(prediction string, references []string) Overlap {
	p := r.words(prediction)
	return best(references, func(reference string) Overlap {
		q := r.words(reference)
		return overlap(len(commonSubsequence(q, p)), len(p), len(q))
	})
}

// LSum returns ROUGE-Lsum, ROUGE-L of texts with a sentence on each line: the words of every sentence of the reference
// that are in its longest common subsequence with any sentence of the prediction.
func (r ROUGE) LSum(prediction string, references []string) Overlap {
	p := r.sentences(prediction)
	return best(references, func(reference string) Overlap { return summaryOverlap(p, r.sentences(reference)) })
}

func best(references []string, score func(reference string) Overlap) (best Overlap) {
	for _, reference := range references {
		if o := score(reference); o.F > best.F {
			best = o
		}
	}
	return best
}

func summaryOverlap(prediction, reference [][]string) Overlap {
	left, hits := counts(prediction), 0
	for _, sentence := range reference {
		in := make([]bool, len(sentence))
		for _, s := range prediction {
			for _, i := range commonSubsequence(sentence, s) {
				in[i] = true
			}
		}
		// A word counts only as often as the prediction has it. The reference has every word of its sentences often enough.
		for i, word := range sentence {
			if in[i] && left[word] > 0 {
				left[word]--
				hits++
			}
		}
	}
	return overlap(hits, total(prediction), total(reference))
}

// counts returns how often the sentences contain each word.
func counts(sentences [][]string) map[string]int {
	n := map[string]int{}
	for _, s := range sentences {
		for _, word := range s {
			n[word]++
		}
	}
	return n
}

// total returns the number of words in the sentences.
func total(sentences [][]string) (n int) {
	for _, s := range sentences {
		n += len(s)
	}
	return n
}

// words splits text at everything but ASCII letters and digits, in lower case. Words of up to 3 letters are their own stems.
func (r ROUGE) words(text string) []string {
	words := strings.FieldsFunc(lower(text), func(c rune) bool { return !('a' <= c && c <= 'z' || '0' <= c && c <= '9') })
	if r.Stem {
		for i, word := range words {
			if len(word) > 3 {
				words[i] = stem(word)
			}
		}
	}
	return words
}

func (r ROUGE) sentences(text string) (sentences [][]string) {
	for line := range strings.SplitSeq(text, "\n") {
		sentences = append(sentences, r.words(line))
	}
	return sentences
}

// grams returns all sequences of n neighbouring words, each joined by spaces.
func grams(words []string, n int) (grams []string) {
	for i := range len(words) - n + 1 {
		grams = append(grams, strings.Join(words[i:i+n], " "))
	}
	return grams
}

// commonSubsequence returns the indices in a of a longest common subsequence of a and b. Which one matters to ROUGE-Lsum:
// it is the one that rouge-score finds, going backwards and preferring to leave out a word of a.
func commonSubsequence(a, b []string) []int {
	table := subsequences(a, b)
	var indices []int
	for i, j := len(a), len(b); i > 0 && j > 0; {
		switch {
		case a[i-1] == b[j-1]:
			i, j = i-1, j-1
			indices = append(indices, i)
		case table[i][j-1] > table[i-1][j]:
			j--
		default:
			i--
		}
	}
	return indices
}

// subsequences returns the lengths [i][j] of the longest common subsequences of a[:i] and b[:j].
func subsequences(a, b []string) [][]int32 {
	width := len(b) + 1
	all := make([]int32, (len(a)+1)*width)
	table := make([][]int32, len(a)+1)
	for i := range table {
		table[i] = all[i*width : (i+1)*width]
	}
	for i, x := range a {
		for j, y := range b {
			if x == y {
				table[i+1][j+1] = table[i][j] + 1
			} else {
				table[i+1][j+1] = max(table[i][j+1], table[i+1][j])
			}
		}
	}
	return table
}
