// Command amphora is a command line over the amphora library, with Docker's
// words and flags. There is no daemon behind it: every invocation opens the
// same directories, and containers go on when it ends.
//
//	amphora run --rm -it alpine
//	amphora run -d --name web -m 64m nginx
//	amphora logs -f web
//
// Each command stands in a file of its own and shows how the library is used
// for it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/amphora-go/amphora"
)

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, opts: amphora.Options{KeepNetworks: true}}
	err := a.main(os.Args[1:])
	if a.eng != nil {
		a.eng.Close()
	}
	os.Exit(a.report(err))
}

// app is one invocation of the program.
type app struct {
	stdin          *os.File
	stdout, stderr *os.File
	opts           amphora.Options
	eng            *amphora.Engine
	onSignal       atomic.Pointer[func(os.Signal)] // takes signals instead of the end of ctx
}

// main reads the flags before the command and runs it.
func (a *app) main(args []string) error {
	fs := flag.NewFlagSet("amphora", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&a.opts.Root, "root", "", "")
	fs.StringVar(&a.opts.State, "state", "", "")
	fs.StringVar(&a.opts.Helper, "helper", "", "")
	fs.Func("mirror", "", a.mirror)
	fs.Func("insecure", "", func(host string) error {
		a.opts.Insecure = append(a.opts.Insecure, host)
		return nil
	})
	debug := fs.Bool("debug", false, "")
	version := fs.Bool("version", false, "")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return a.help(nil)
	case err != nil:
		return usagef(125, `%s; see "amphora help"`, err)
	case *version:
		args = []string{"version"}
	default:
		args = fs.Args()
	}
	if *debug {
		a.opts.Logger = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if len(args) == 0 || args[0] == "help" {
		return a.help(args)
	}
	return dispatch(a.interrupted(), a, "amphora", commands(), args)
}

// mirror reads -mirror HOST=URL.
func (a *app) mirror(s string) error {
	host, url, ok := strings.Cut(s, "=")
	if !ok || host == "" || url == "" {
		return errors.New("give HOST=URL, such as docker.io=http://127.0.0.1:5000")
	}
	if a.opts.Mirrors == nil {
		a.opts.Mirrors = map[string][]string{}
	}
	a.opts.Mirrors[host] = append(a.opts.Mirrors[host], url)
	return nil
}

// engine opens the store, the first time it is asked for.
func (a *app) engine(ctx context.Context) (*amphora.Engine, error) {
	if a.eng != nil {
		return a.eng, nil
	}
	var err error
	a.eng, err = amphora.Open(ctx, &a.opts)
	return a.eng, err
}

// interrupted returns a context that the first SIGINT or SIGTERM ends, unless
// onSignal takes them. A second one ends the program.
func (a *app) interrupted() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			code := 128 + int(s.(syscall.Signal))
			if take := a.onSignal.Load(); take != nil {
				(*take)(s)
			} else if ctx.Err() != nil {
				os.Exit(code)
			} else {
				cancel(exitCode(code))
			}
		}
	}()
	return ctx
}

// exitCode is an error that is not printed: all was said.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// coded is an error with the exit code that it ends the program with.
type coded struct {
	error
	code int
}

func (c coded) Unwrap() error { return c.error }

func usagef(code int, format string, args ...any) error {
	return coded{fmt.Errorf(format, args...), code}
}

// report prints the error, in one line, and returns the exit code.
func (a *app) report(err error) int {
	var quiet exitCode
	var c coded
	switch {
	case err == nil:
		return 0
	case errors.As(err, &quiet):
		return int(quiet)
	}
	a.complain(err)
	if errors.As(err, &c) {
		return c.code
	}
	return 1
}

func (a *app) complain(err error) {
	fmt.Fprintln(a.stderr, "amphora:", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}
