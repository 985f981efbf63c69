package main

import (
	"context"
	"fmt"
	"text/tabwriter"
)

var checkCommand = command{
	name: "check", summary: "Say what this machine lacks, and how to get it",
	setup: func(f *flags) action {
		var format string
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Name}}'")
		return func(ctx context.Context, a *app, _ []string) error {
			tmpl, err := parseFormat(format)
			if err != nil {
				return err
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			findings, err := eng.Check(ctx)
			if err != nil {
				return err
			}
			needed := 0
			tw := tabwriter.NewWriter(a.stdout, 0, 1, 3, ' ', 0)
			for _, f := range findings {
				kind := "note"
				if f.Needed {
					kind = "NEEDED"
					needed++
				}
				if tmpl != nil {
					if err := tmpl(a.stdout, f); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(tw, "%s\t%s\t%s\n", kind, f.Name, f.Problem)
				if f.Cure != "" {
					fmt.Fprintf(tw, "\t\tcure: %s\n", f.Cure)
				}
			}
			tw.Flush()
			switch {
			case needed > 0:
				return fmt.Errorf("containers cannot run here: %d of what they need is missing", needed)
			case len(findings) == 0 && tmpl == nil:
				fmt.Fprintln(a.stdout, "Nothing is missing: containers can run here.")
			case tmpl == nil:
				fmt.Fprintln(a.stdout, "Containers can run here.")
			}
			return nil
		}
	},
}
