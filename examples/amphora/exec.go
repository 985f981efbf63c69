package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/amphora-go/amphora/container"
)

var execCommand = command{
	name: "exec", args: "CONTAINER COMMAND [ARG...]", summary: "Execute a command in a running container",
	min: 2, max: -1, foreign: true,
	setup: func(f *flags) action {
		var x container.Exec
		var env, envFiles []string
		var detach, interactive bool
		f.bool(&detach, "d,detach", "Detached mode: run command in the background")
		f.bool(&interactive, "i,interactive", "Keep STDIN open even if not attached")
		f.bool(&x.TTY, "t,tty", "Allocate a pseudo-TTY")
		f.list(&env, "e,env", "Set environment variables (`KEY[=value]`)")
		f.list(&envFiles, "env-file", "Read in a `file` of environment variables")
		f.text(&x.User, "u,user", "User name or UID (`name[:group]`)")
		f.text(&x.Dir, "w,workdir", "Working directory inside the container")
		f.bool(&x.Privileged, "privileged", "Give extended privileges to the command")
		return func(ctx context.Context, a *app, args []string) (err error) {
			if x.Env, err = environment(envFiles, env); err != nil {
				return err
			}
			c, err := a.container(ctx, args[0])
			if err != nil {
				return err
			}
			cmd := c.Command(context.WithoutCancel(ctx), args[1:]...)
			cmd.Env, cmd.TTY, cmd.User, cmd.Dir, cmd.Privileged = x.Env, x.TTY, x.User, x.Dir, x.Privileged
			if detach {
				return exited(cmd.Start())
			}
			return a.exec(cmd, interactive)
		}
	},
}

// exec runs a process of a container with this program's streams.
func (a *app) exec(cmd *container.Exec, stdin bool) error {
	cmd.Stdout, cmd.Stderr = a.stdout, a.stderr
	if stdin {
		if err := a.checkTerminal(cmd.TTY); err != nil {
			return err
		}
		cmd.Stdin = a.stdin
	}
	if cmd.TTY {
		cmd.Width, cmd.Height = a.terminalSize()
	}
	if stdin && cmd.TTY {
		restore, err := a.raw()
		if err != nil {
			return err
		}
		defer restore()
	}
	// Docker's client leaves the process behind when it is interrupted, but
	// who types ctrl-c means the process.
	open, stop := a.proxy(func(signal syscall.Signal) { cmd.Signal(fmt.Sprint(int(signal))) })
	defer stop()
	if cmd.TTY {
		openSize, stopSize := a.followSize(func(w, h uint16) { cmd.Resize(w, h) })
		open = both(open, openSize)
		defer stopSize()
	}
	err := cmd.Start()
	open()
	if err != nil {
		return exited(err)
	}
	return exited(cmd.Wait())
}

// exited turns a process's end into this program's.
func exited(err error) error {
	if exit := (*container.ExitError)(nil); errors.As(err, &exit) {
		return exitCode(exit.Code)
	}
	if code := container.Code(err); code == 126 || code == 127 {
		return coded{err, code} // the command is missing, or cannot run
	}
	return err
}
