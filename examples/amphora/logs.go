package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/amphora-go/amphora/container"
)

var logsCommand = command{
	name: "logs", args: "CONTAINER", summary: "Fetch the logs of a container",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var o container.LogOptions
		var stamps bool
		f.bool(&o.Follow, "f,follow", "Follow log output")
		value(f, &o.Since, "since", "Show logs since `time` (2026-01-02T13:23:37Z) or relative (42m for 42 minutes)", parseTime)
		value(f, &o.Until, "until", "Show logs before `time` or relative", parseTime)
		value(f, &o.Tail, "n,tail", "Show this `number` of lines from the end of the logs (default all)", parseTail)
		f.bool(&stamps, "t,timestamps", "Show timestamps")
		return func(ctx context.Context, a *app, args []string) error {
			c, err := a.container(ctx, args[0])
			if err != nil {
				return err
			}
			begun := map[string]bool{} // streams in the middle of a long line
			for entry, err := range c.Logs(ctx, &o) {
				if err != nil {
					return err
				}
				out := a.stdout
				if entry.Stream == "stderr" {
					out = a.stderr
				}
				stamp := ""
				if stamps && !begun[entry.Stream] {
					stamp = entry.Time.UTC().Format("2006-01-02T15:04:05.000000000Z") + " "
				}
				begun[entry.Stream] = !strings.HasSuffix(string(entry.Line), "\n")
				if _, err := fmt.Fprintf(out, "%s%s", stamp, entry.Line); err != nil {
					return err
				}
			}
			return nil
		}
	},
}

// parseTail reads "all" or a number; the library's 0 is all, its -1 none.
func parseTail(s string) (int, error) {
	if s == "all" {
		return 0, nil
	}
	n, err := parseNumber[int](s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("want all, or a number of lines")
	case n < 0:
		return 0, nil
	case n == 0:
		return -1, nil
	}
	return n, nil
}
