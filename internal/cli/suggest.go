package cli

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// unknownCommand returns the error for a word that is not a command below cmd.
func unknownCommand(cmd *cobra.Command, word string) error {
	known, meant := commands(cmd), suggest(cmd, word)
	word = Shorten(word)
	switch {
	case len(known) == 0:
		return Usagef("%s has no command %q", cmd.CommandPath(), word)
	case meant != "":
		return Usagef("unknown command %q; did you mean %s?", word, meant)
	}
	return Usagef("unknown command %q; want %s", word, orList(known))
}

// suggest returns the command that was probably meant by word, or "".
func suggest(cmd *cobra.Command, word string) string {
	const version = "version"
	switch {
	case word == "":
		return ""
	case !cmd.HasParent() && len(word) > 2 && len(Nearest(word, []string{version})) > 0:
		return cmd.Name() + " --" + version
	}
	names := Nearest(word, commands(cmd))
	for i, name := range names {
		names[i] = cmd.CommandPath() + " " + name
	}
	return orList(names)
}

// Nearest returns the names that may have been meant by word: those that begin with it, or differ from it in at most
// two letters.
func Nearest(word string, names []string) (near []string) {
	const longest = 200 // bytes; longer words are not compared
	if len(word) > longest {
		return nil
	}
	joined := func(s string) string { return strings.ReplaceAll(s, " ", "_") } // a command's name ends at a space
	for _, name := range names {
		list := &cobra.Command{SuggestionsMinimumDistance: 2}
		list.AddCommand(&cobra.Command{Use: joined(name), Run: func(*cobra.Command, []string) {}})
		if len(list.SuggestionsFor(joined(word))) > 0 {
			near = append(near, name)
		}
	}
	return near
}

// commands returns the names of the commands below cmd, except those that every command has.
func commands(cmd *cobra.Command) (names []string) {
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" && sub.Name() != "completion" {
			names = append(names, sub.Name())
		}
	}
	return names
}

// findCommand returns an error if the first word of args is not a command; nil if it is, or if there is no such word.
func findCommand(root *cobra.Command, args []string) error {
	if cmd, rest, err := root.Find(args); err != nil && cmd == root {
		for _, word := range rest {
			if !strings.HasPrefix(word, "-") {
				return unknownCommand(root, word)
			}
		}
	}
	return nil
}

// doubtArgs makes a root that takes both arguments and commands reject a first argument that is not a file but
// resembles a command.
func doubtArgs(root *cobra.Command) {
	if root.Args == nil || len(root.Commands()) == 0 {
		return
	}
	check := root.Args
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			if _, err := os.Stat(args[0]); errors.Is(err, fs.ErrNotExist) && suggest(cmd, args[0]) != "" {
				return unknownCommand(cmd, args[0])
			}
		}
		return check(cmd, args)
	}
}

// helpCommand is like cobra's, except that an unknown command is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(of, rest[0])
			}
			of.InitDefaultHelpFlag()
			of.InitDefaultVersionFlag()
			return of.Help()
		},
	}
}
