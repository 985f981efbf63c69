package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/image"
)

var searchCommand = command{
	name: "search", args: "TERM", summary: "Search Docker Hub, or HOST/TERM a registry, for images",
	min: 1, max: 1,
	setup: func(f *flags) action {
		var o image.SearchOptions
		var filters []string
		var format string
		var full bool
		f.list(&filters, "f,filter", "Filter by `condition`: is-official=true or stars=NUMBER")
		f.text(&format, "format", "Print json, or by a `template` such as '{{.Name}}'")
		value(f, &o.Limit, "limit", "Max number of search results (default 25)", strconv.Atoi)
		f.bool(&full, "no-trunc", "Don't truncate output")
		return func(ctx context.Context, a *app, args []string) (err error) {
			for _, filter := range filters {
				key, v, _ := strings.Cut(filter, "=")
				switch key {
				case "is-official":
					o.Official, err = strconv.ParseBool(v)
				case "stars":
					o.Stars, err = strconv.Atoi(v)
				default:
					err = fmt.Errorf("use is-official or stars")
				}
				if err != nil {
					return fmt.Errorf("filter %q: %w", filter, err)
				}
			}
			eng, err := a.engine(ctx)
			if err != nil {
				return err
			}
			found, err := eng.Images().Search(ctx, args[0], &o)
			if err != nil {
				return err
			}
			t := table[image.SearchResult]{columns: []string{"NAME", "DESCRIPTION", "STARS", "OFFICIAL"}, cells: func(r image.SearchResult) []string {
				official := ""
				if r.Official {
					official = "[OK]"
				}
				description := r.Description
				if runes := []rune(description); !full && len(runes) > 45 {
					description = string(runes[:44]) + "…"
				}
				return []string{r.Name, description, strconv.Itoa(r.Stars), official}
			}}
			return t.print(a.stdout, format, false, found)
		}
	},
}
