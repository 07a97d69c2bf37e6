package tasks

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

const (
	passkeyName  = "passkey"
	passkeyItems = 20 // of each length
	passkeys     = 10 // choices of an item
	digits       = 5
	// passkeyRoom is the number of tokens that are left free beside the text, for the key and what a tokenizer adds.
	passkeyRoom = 16
	// chatRoom is the number of tokens that are left free for a chat template.
	chatRoom = 96
)

// The text around a key.
const (
	passkeyIntro  = "Somewhere in this text there is a pass key. Remember it, for it is asked for at the end.\n"
	passkeyFiller = "The river is wide and the road is long. Birds fly over the hills. The day is warm, and we walk on. "
	passkeyAsk    = "\nWhat is the pass key? The pass key is"
)

// passkey returns the task to find a number in a long text that has nothing to do with it (Mohtashami and Jaggi 2023,
// arXiv 2305.16300, section 4.2). acc is the share of items in which the number is more likely than nine others, exact the share in which
// the model would write it. Lengths are in tokens, from 1024 to the model's context, doubling; or only the given one, if it is not 0.
func passkey(length int) *Task {
	return &Task{Name: passkeyName, Metrics: []string{"acc", "exact"}, build: func(e *encoder) (all []Item, err error) {
		lengths, err := passkeyLengths(length, e.limit)
		if err != nil {
			return nil, err
		}
		for _, n := range lengths {
			items, err := e.passkeysOf(n)
			if err != nil {
				return nil, err
			}
			all = append(all, items...)
		}
		return all, nil
	}}
}

// passkeyLengths returns the lengths of the texts for a model that reads limit tokens.
func passkeyLengths(length, limit int) (all []int, err error) {
	if length > limit {
		return nil, fmt.Errorf("a text of %d tokens is asked for, and the model reads %d", length, limit)
	}
	if length > 0 {
		return []int{length}, nil
	}
	for n := 1024; n < limit; n *= 2 {
		all = append(all, n)
	}
	return append(all, limit), nil
}

// passkeysOf returns the items with texts of n tokens or a few less. The key is at evenly spaced depths.
func (e *encoder) passkeysOf(n int) (all []Item, err error) {
	room := n - passkeyRoom
	if e.chat != nil {
		room -= chatRoom
	}
	fillers, err := e.fillers(n, room)
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(1, uint64(n)))
	for i := range passkeyItems {
		it := Item{Delimiter: " ", Group: strconv.Itoa(n)}
		for range passkeys {
			it.Choices = append(it.Choices, strconv.Itoa(10_000+r.IntN(90_000)))
		}
		it.Answer = r.IntN(passkeys)
		it.Context = passkeyText(it.Choices[it.Answer], fillers, (2*i+1)*fillers/(2*passkeyItems))
		all = append(all, it)
	}
	return all, nil
}

// passkeyText returns a text with the key after some of its fillers.
func passkeyText(key string, fillers, after int) string {
	return passkeyIntro + strings.Repeat(passkeyFiller, after) + "The pass key is " + key + ". Remember it: " + key + " is the pass key. " +
		strings.Repeat(passkeyFiller, fillers-after) + passkeyAsk
}

// fillers returns how many fillers a text of at most room of n tokens has.
func (e *encoder) fillers(n, room int) (int, error) {
	length := func(fillers int) (int, error) {
		ids, err := e.text(passkeyText(strings.Repeat("0", digits), fillers, 0))
		return len(ids), err
	}
	none, err := length(0)
	if err != nil {
		return 0, err
	}
	some, err := length(10)
	if err != nil {
		return 0, err
	}
	if none > room || some <= none {
		return 0, fmt.Errorf("a text of %d tokens has no room for a pass key: want at least %d", n, n-room+none)
	}
	fit := (room - none) * 10 / (some - none)
	for fit > 0 {
		got, err := length(fit)
		if err != nil {
			return 0, err
		}
		if got <= room {
			break
		}
		fit -= max(1, (got-room)*10/(some-none))
	}
	return max(fit, 0), nil
}
