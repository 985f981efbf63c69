package main

import (
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// flags are the flags of one command in Docker's notation, over the values of
// package flag: long ones with two dashes, short ones with one that can be
// joined (-it, -n5, -p=x), all of them repeatable.
type flags struct {
	set   *flag.FlagSet
	names []string          // "short,long", in the order of their definition
	long  map[string]string // of a short one
}

func newFlags() *flags {
	f := &flags{set: flag.NewFlagSet("", flag.ContinueOnError), long: map[string]string{}}
	f.set.SetOutput(io.Discard)
	f.flag("h,help", "Print usage", new(toggle))
	return f
}

// flag defines one by "long" or "s,long". A word of usage in backquotes names
// its value.
func (f *flags) flag(name, usage string, v flag.Value) {
	short, long := splitName(name)
	f.set.Var(v, long, usage)
	f.names = append(f.names, name)
	if short != "" {
		f.long[short] = long
	}
}

func splitName(name string) (short, long string) {
	short, long, ok := strings.Cut(name, ",")
	if !ok {
		return "", name
	}
	return short, long
}

func (f *flags) given(long string) bool {
	given := false
	f.set.Visit(func(g *flag.Flag) { given = given || g.Name == long })
	return given
}

// parse returns the arguments. With first, flags end at the first argument:
// what follows it is a command with flags of its own.
func (f *flags) parse(args []string, first bool) (rest []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			return append(rest, args...), nil
		case len(arg) < 2 || arg[0] != '-':
			if rest = append(rest, arg); first {
				return append(rest, args...), nil
			}
		case strings.HasPrefix(arg, "--"):
			name, value, joined := strings.Cut(arg[2:], "=")
			args, err = f.take(name, "--"+name, value, joined, args)
		default:
			args, err = f.takeShort(arg[1:], args)
		}
		if err != nil {
			return nil, err
		}
	}
	return rest, nil
}

// takeShort sets the flags of a bundle such as "it" or "n5".
func (f *flags) takeShort(bundle string, args []string) (_ []string, err error) {
	for bundle != "" {
		short := bundle[:1]
		bundle = bundle[1:]
		name, known := f.long[short]
		if !known {
			return nil, fmt.Errorf("unknown shorthand flag: -%s", short)
		}
		value, joined := "", false
		if !f.toggles(name) || strings.HasPrefix(bundle, "=") {
			value, joined = strings.TrimPrefix(bundle, "="), bundle != ""
			bundle = ""
		}
		if args, err = f.take(name, "-"+short, value, joined, args); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// take sets one flag, with the next of args as its value if it needs one.
func (f *flags) take(name, shown, value string, joined bool, args []string) ([]string, error) {
	switch {
	case f.set.Lookup(name) == nil:
		return nil, fmt.Errorf("unknown flag: %s", shown)
	case joined:
	case f.toggles(name):
		value = "true"
	case len(args) == 0:
		return nil, fmt.Errorf("flag needs an argument: %s", shown)
	default:
		value, args = args[0], args[1:]
	}
	if err := f.set.Set(name, value); err != nil {
		return nil, fmt.Errorf("invalid argument %q for %s: %w", value, shown, err)
	}
	return args, nil
}

// toggles reports whether a flag stands without a value.
func (f *flags) toggles(name string) bool {
	g := f.set.Lookup(name)
	if g == nil {
		return false
	}
	b, ok := g.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// The values. flag.Set has no usable constructor for each without a variable,
// and a command reads best when each flag is one line.

type toggle bool

func (t *toggle) IsBoolFlag() bool { return true }
func (t *toggle) String() string   { return strconv.FormatBool(bool(*t)) }
func (t *toggle) Set(s string) (err error) {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("want true or false")
	}
	*t = toggle(b)
	return nil
}

type text string

func (t *text) String() string     { return string(*t) }
func (t *text) Set(s string) error { *t = text(s); return nil }

type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// parsed is a value that a function reads.
type parsed[T any] struct {
	value *T
	parse func(string) (T, error)
}

func (p parsed[T]) String() string { return "" }
func (p parsed[T]) Set(s string) (err error) {
	*p.value, err = p.parse(s)
	return err
}

func (f *flags) bool(p *bool, name, usage string)     { f.flag(name, usage, (*toggle)(p)) }
func (f *flags) text(p *string, name, usage string)   { f.flag(name, usage, (*text)(p)) }
func (f *flags) list(p *[]string, name, usage string) { f.flag(name, usage, (*list)(p)) }

// value defines a flag that parse reads.
func value[T any](f *flags, p *T, name, usage string, parse func(string) (T, error)) {
	f.flag(name, usage, parsed[T]{p, parse})
}
