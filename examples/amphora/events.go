package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/amphora-go/amphora"
)

var eventsCommand = command{
	name: "events", summary: "Get events, from now on or since a time",
	setup: func(f *flags) action {
		var since, until time.Time
		var filters []string
		var format string
		value(f, &since, "since", "Show all events created since `time`", parseTime)
		value(f, &until, "until", "Stream events until this `time`", parseTime)
		f.list(&filters, "f,filter", "Filter output by `condition`: type=, event=, container=, image=, network= or volume=")
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Action}}'")
		return func(ctx context.Context, a *app, _ []string) error {
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			tmpl, err := parseFormat(format)
			if err != nil {
				return err
			}
			if tmpl == nil {
				tmpl = printEvent
			}
			o := amphora.EventOptions{After: since, Follow: until.IsZero() || until.After(time.Now()), Tail: since.IsZero()}
			if !until.IsZero() && o.Follow {
				var cancel context.CancelFunc
				ctx, cancel = context.WithDeadline(ctx, until)
				defer cancel()
			}
			for e, err := range eng.Events(ctx, &o) {
				if err != nil {
					if !until.IsZero() && time.Now().After(until) {
						return nil
					}
					return err
				}
				if !until.IsZero() && e.Time.After(until) {
					return nil
				}
				ok, err := eventMatches(filters, &e)
				if err == nil && ok {
					err = tmpl(a.stdout, e)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	},
}

func printEvent(w io.Writer, v any) error {
	e := v.(amphora.Event)
	attributes := strings.ReplaceAll(joined(e.Attributes), ",", ", ")
	_, err := fmt.Fprintf(w, "%s %s %s %s (%s)\n", e.Time.Local().Format("2006-01-02T15:04:05.000000000Z07:00"), e.Type, e.Action, e.ID, attributes)
	return err
}

// eventMatches reports whether all filters hold; of several of one kind, any.
func eventMatches(filters []string, e *amphora.Event) (bool, error) {
	kinds := map[string]bool{}
	for _, f := range filters {
		key, v, _ := strings.Cut(f, "=")
		var hit bool
		switch key {
		case "type":
			hit = e.Type == v
		case "event":
			hit = e.Action == v
		case "container", "image", "network", "volume":
			hit = e.Type == key && v != "" && (strings.HasPrefix(e.ID, v) || e.Attributes["name"] == v)
		default:
			return false, fmt.Errorf("unknown filter %q: use type, event, container, image, network or volume", key)
		}
		kinds[key] = kinds[key] || hit
	}
	for _, hit := range kinds {
		if !hit {
			return false, nil
		}
	}
	return true, nil
}
