package tasks

import (
	"fmt"
	"strconv"
	"strings"
)

// Sample is the name of all tasks together that are made of the embedded sample's text.
const Sample = "sample"

// Embedded returns the names of the tasks that need no file.
func Embedded() []string {
	return []string{"identifiers", "brackets", "continuation", Sample, passkeyName}
}

// embeddedTasks returns the embedded tasks with a name; nil if there are none.
func embeddedTasks(name string) ([]*Task, error) {
	if length, ok := strings.CutPrefix(name, passkeyName+":"); ok {
		n, err := strconv.Atoi(length)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("task %s: want a number of tokens after the colon, such as passkey:4096", name)
		}
		return []*Task{passkey(n)}, nil
	}
	switch name {
	case passkeyName:
		return []*Task{passkey(0)}, nil
	case Sample:
		return sampleTasks()
	}
	all, err := sampleTasks()
	for _, t := range all {
		if t.Name == name {
			return []*Task{t}, err
		}
	}
	return nil, err
}
