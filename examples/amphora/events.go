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
		f.list(&filters, "f,filter", "Filter output by `condition`: type=, event=, label=, container=, image=, network= or volume=")
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
			filter, err := eventFilter(filters)
			if err != nil {
				return err
			}
			o := amphora.EventOptions{After: since, Follow: until.IsZero() || until.After(time.Now()), Tail: since.IsZero(), Filter: filter}
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
				if err := tmpl(a.stdout, e); err != nil {
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

// eventFilter reads the values of --filter.
func eventFilter(filters []string) (*amphora.EventFilter, error) {
	f := new(amphora.EventFilter)
	to := map[string]*[]string{"type": &f.Types, "event": &f.Actions, "label": &f.Labels,
		"container": &f.Containers, "image": &f.Images, "network": &f.Networks, "volume": &f.Volumes}
	for _, one := range filters {
		key, v, _ := strings.Cut(one, "=")
		if to[key] == nil {
			return nil, fmt.Errorf("unknown filter %q: use type, event, label, container, image, network or volume", key)
		}
		*to[key] = append(*to[key], v)
	}
	return f, nil
}
