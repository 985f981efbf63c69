package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// command is one word of the command line.
type command struct {
	name, args, summary string
	min, max            int                 // how many arguments it takes; max < 0: any number
	foreign             bool                // what follows the first argument is a command of its own
	setup               func(*flags) action // defines the flags, returns what reads them
	commands            []command           // instead of setup
}

type action func(ctx context.Context, a *app, args []string) error

func commands() []command {
	return []command{
		runCommand, createCommand, startCommand, stopCommand, killCommand, restartCommand, pauseCommand, unpauseCommand,
		waitCommand, rmCommand, renameCommand, psCommand, portCommand, logsCommand, execCommand, attachCommand, inspectCommand, cpCommand, diffCommand, exportCommand, commitCommand, statsCommand, topCommand, updateCommand,
		buildCommand, builderCommand, pullCommand, loadCommand, importCommand, imagesCommand, historyCommand, tagCommand, rmiCommand,
		pushCommand, saveCommand, loginCommand, logoutCommand, copyCommand, manifestCommand, imageCommand, searchCommand, verifyCommand,
		duCommand, systemCommand, artifactCommand,
		networkCommand, volumeCommand, eventsCommand, checkCommand, recoverCommand, superviseCommand, versionCommand,
	}
}

// dispatch finds the command that args begin with, and runs it.
func dispatch(ctx context.Context, a *app, parent string, among []command, args []string) error {
	c, rest := find(among, args)
	if c == nil {
		return usagef(1, `%q is not a command of %s; see "%s help"`, args[0], parent, parent)
	}
	path := parent + " " + c.name
	if c.commands != nil {
		if len(rest) == 0 || rest[0] == "help" || rest[0] == "-h" || rest[0] == "--help" {
			return a.helpCommand(path, c)
		}
		return dispatch(ctx, a, path, c.commands, rest)
	}
	f := newFlags()
	act := c.setup(f)
	operands, err := f.parse(rest, c.foreign)
	switch {
	case len(rest) == 1 && rest[0] == "-h": // alone it cannot be run's -h HOSTNAME
		return a.helpCommand(path, c)
	case err != nil:
		return usagef(125, `%s; see "%s --help"`, err, path)
	case f.given("help"):
		return a.helpCommand(path, c)
	case len(operands) < c.min:
		return usagef(1, `"%s" requires %s; usage: %s %s`, path, count(c), path, c.args)
	case c.max >= 0 && len(operands) > c.max:
		return usagef(1, `"%s" takes %s, not %q; usage: %s %s`, path, count(c), operands[c.max:], path, c.args)
	}
	err = act(ctx, a, operands)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause // what was interrupted need not explain itself
	}
	return err
}

func find(among []command, args []string) (*command, []string) {
	for i := range among {
		if among[i].name == args[0] {
			return &among[i], args[1:]
		}
	}
	return nil, args
}

func count(c *command) string {
	unit := "arguments"
	if n := max(c.min, c.max); n == 1 {
		unit = "argument"
	}
	switch {
	case c.max < 0:
		return fmt.Sprintf("at least %d %s", c.min, unit)
	case c.min == c.max && c.max == 0:
		return "no arguments"
	case c.min == c.max:
		return fmt.Sprintf("%d %s", c.min, unit)
	}
	return fmt.Sprintf("at most %d %s", c.max, unit)
}

const options = `
  -root DIR            images, containers, networks and volumes (default /var/lib/amphora)
  -state DIR           what does not survive a reboot (default /run/amphora)
  -mirror HOST=URL     registry asked before HOST, such as docker.io=http://127.0.0.1:5000
  -insecure HOST       registry reached by plain HTTP or unverified TLS
  -helper PROGRAM      cmd/amphora-helper, executed for supervisors instead of this program
  -debug               log to standard error
`

// help prints what the program, or the command named by args[1:], is for.
func (a *app) help(args []string) error {
	if len(args) > 1 {
		among, path := commands(), "amphora"
		for words := args[1:]; ; {
			c, rest := find(among, words)
			if c == nil {
				return usagef(1, `%q is not a command of %s; see "amphora help"`, words[0], path)
			}
			path += " " + c.name
			if len(rest) == 0 || c.commands == nil {
				return a.helpCommand(path, c)
			}
			among, words = c.commands, rest
		}
	}
	fmt.Fprintf(a.stdout, "Usage:  amphora [OPTIONS] COMMAND\n\nRun containers without a daemon\n\nOptions:%s\nCommands:\n", options)
	listCommands(a.stdout, commands())
	fmt.Fprint(a.stdout, "\nRun 'amphora COMMAND --help' for more information on a command.\n")
	return nil
}

func listCommands(w io.Writer, all []command) {
	tw := tabwriter.NewWriter(w, 0, 1, 3, ' ', 0)
	for _, c := range all {
		fmt.Fprintf(tw, "  %s\t%s\n", c.name, c.summary)
	}
	tw.Flush()
}

func (a *app) helpCommand(path string, c *command) error {
	if c.commands != nil {
		fmt.Fprintf(a.stdout, "Usage:  %s COMMAND\n\n%s\n\nCommands:\n", path, c.summary)
		listCommands(a.stdout, c.commands)
		return nil
	}
	fmt.Fprintf(a.stdout, "Usage:  %s\n\n%s\n\nOptions:\n", strings.TrimSpace(path+" [OPTIONS] "+c.args), c.summary)
	f := newFlags()
	c.setup(f)
	tw := tabwriter.NewWriter(a.stdout, 0, 1, 3, ' ', 0)
	for _, name := range append(f.names[1:], f.names[0]) {
		short, long := splitName(name)
		if short != "" && f.long[short] == long {
			short = "-" + short + ","
		} else {
			short = "   "
		}
		g := f.set.Lookup(long)
		word, usage := flag.UnquoteUsage(g)
		_, many := g.Value.(*list)
		switch {
		case many && word == "value":
			word = "list"
		case f.toggles(long):
			word = ""
		case word == "value":
			word = "string"
		}
		fmt.Fprintf(tw, "  %s --%s %s\t%s\n", short, long, word, usage)
	}
	return tw.Flush()
}
