package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/amphora-go/amphora/image"
)

var loginCommand = command{
	name: "login", args: "[SERVER]", summary: "Log in to a registry",
	max: 1,
	setup: func(f *flags) action {
		var c image.Credentials
		var stdin bool
		f.text(&c.Password, "p,password", "Password, which other users of this machine can see; better is --password-stdin")
		f.bool(&stdin, "password-stdin", "Take the password from stdin")
		f.text(&c.Username, "u,username", "Username")
		return func(ctx context.Context, a *app, args []string) error {
			server := "docker.io"
			if len(args) > 0 {
				server = args[0]
			}
			switch {
			case stdin && c.Password != "":
				return errors.New("--password and --password-stdin are mutually exclusive")
			case stdin && c.Username == "":
				return errors.New("must provide --username with --password-stdin")
			case c.Password != "":
				fmt.Fprintln(a.stderr, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
			}
			if err := a.ask(&c, stdin); err != nil {
				return err
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			in, err := eng.Images().Login(ctx, server, c, nil)
			if err != nil {
				return err
			}
			if in.Helper == "" {
				fmt.Fprintf(a.stderr, "WARNING! Your password will be stored unencrypted in %s.\nConfigure a credential helper to remove this warning.\n", in.File)
			}
			fmt.Fprintln(a.stdout, "Login Succeeded")
			return nil
		}
	},
}

// ask reads what was not given by flags.
func (a *app) ask(c *image.Credentials, fromStdin bool) error {
	if fromStdin {
		data, err := io.ReadAll(io.LimitReader(a.stdin, 1<<20))
		c.Password = strings.TrimRight(string(data), "\r\n")
		return err
	}
	if c.Username == "" {
		fmt.Fprint(a.stdout, "Username: ")
		line, err := bufio.NewReader(a.stdin).ReadString('\n')
		if err != nil {
			return errors.New("no user name; give --username and --password-stdin")
		}
		c.Username = strings.TrimSpace(line)
	}
	if c.Password != "" {
		return nil
	}
	return a.askPassword(c, a.stdin)
}

func (a *app) askPassword(c *image.Credentials, from *os.File) error {
	if !term.IsTerminal(int(from.Fd())) {
		return errors.New("cannot perform an interactive login from a non TTY device; give --password-stdin")
	}
	fmt.Fprint(a.stdout, "Password: ")
	data, err := term.ReadPassword(int(from.Fd()))
	fmt.Fprintln(a.stdout)
	c.Password = string(data)
	return err
}
