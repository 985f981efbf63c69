package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
)

// table prints rows in columns, as JSON, or by a template.
type table[Row any] struct {
	columns []string
	cells   func(Row) []string
	quiet   func(Row) string // the one cell of -q
}

func (t *table[Row]) print(w io.Writer, format string, quiet bool, rows []Row) error {
	tmpl, err := parseFormat(format)
	if err != nil {
		return err
	}
	switch {
	case quiet && tmpl == nil:
		for _, r := range rows {
			fmt.Fprintln(w, t.quiet(r))
		}
		return nil
	case tmpl != nil:
		for _, r := range rows {
			if err := tmpl(w, r); err != nil {
				return err
			}
		}
		return nil
	}
	tw := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	fmt.Fprintln(tw, strings.Join(t.columns, "\t"))
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(t.cells(r), "\t"))
	}
	return tw.Flush()
}

// parseFormat reads a --format: "json" or a template. It is nil for a table.
func parseFormat(format string) (func(w io.Writer, v any) error, error) {
	switch format {
	case "", "table":
		return nil, nil
	case "json":
		return func(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }, nil
	}
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	tmpl, err := template.New("format").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			b, err := json.Marshal(v)
			return string(b), err
		},
		"join": strings.Join, "lower": strings.ToLower, "upper": strings.ToUpper,
	}).Parse(format)
	if err != nil {
		return nil, fmt.Errorf("--format: %w", err)
	}
	return func(w io.Writer, v any) error {
		if err := tmpl.Execute(w, v); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		_, err := fmt.Fprintln(w)
		return err
	}, nil
}

// printJSON prints values as an indented array, or each by a template.
func printJSON[T any](w io.Writer, format string, values []T) error {
	tmpl, err := parseFormat(format)
	if err != nil {
		return err
	}
	if tmpl == nil {
		e := json.NewEncoder(w)
		e.SetIndent("", "    ")
		return e.Encode(values)
	}
	for _, v := range values {
		if err := tmpl(w, v); err != nil {
			return err
		}
	}
	return nil
}
