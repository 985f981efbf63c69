package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"
)

// result is what one row of the benchmark found: a part of the table.
type result struct {
	Title  string     `json:"title"`
	Unit   string     `json:"unit"`
	Load   string     `json:"load"`           // averages when it began
	Work   float64    `json:"work,omitempty"` // how many of Item one sample handles
	Item   string     `json:"item,omitempty"`
	Base   string     `json:"base,omitempty"` // series that ratios are by; empty: ours
	Series []series   `json:"series"`
	Table  [][]string `json:"table,omitempty"` // instead of the usual columns; the first line is the head
	Notes  []string   `json:"notes,omitempty"`
	Goals  []string   `json:"-"` // those that no ratio of two series expresses
}

// find returns the series of a contender, nil if it has no samples.
func (r *result) find(name, kind string) *series {
	for i := range r.Series {
		if s := &r.Series[i]; s.Name == name && s.Kind == kind && len(s.Samples) > 0 {
			return s
		}
	}
	return nil
}

// ours is what contenders of a kind are compared with: the library for APIs,
// the command line in its default form for commands.
func (r *result) ours(kind string) *series {
	for _, name := range []string{r.Base, nameLibrary, nameCLI, nameFresh} {
		if s := r.find(name, kind); s != nil {
			return s
		}
	}
	return nil
}

func (r *result) text() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s  (load %s)\n", r.Title, r.Load)
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, line := range r.Table {
		fmt.Fprintf(w, "  %s\n", strings.Join(line, "\t"))
	}
	if r.Table == nil {
		r.rows(w)
	}
	w.Flush()
	for _, note := range r.Notes {
		fmt.Fprintf(&out, "  %s\n", note)
	}
	return out.String()
}

func (r *result) rows(w *tabwriter.Writer) {
	head := []string{"", "", "runs", "median " + r.Unit, "min", "p90", "ratio"}
	if r.Work > 0 {
		head = append(head, r.Item+"/s")
	}
	fmt.Fprintf(w, "  %s\n", strings.Join(head, "\t"))
	for _, kind := range []string{api, command} {
		ours := r.ours(kind)
		for _, s := range r.Series {
			if s.Kind != kind {
				continue
			}
			line := []string{s.Kind, s.Name, fmt.Sprint(len(s.Samples)), "-", "-", "-", "-"}
			if len(s.Samples) > 0 {
				line[3], line[4], line[5] = number(s.median()), number(quantile(s.Samples, 0)), number(quantile(s.Samples, 0.9))
				if ours != nil {
					line[6] = fmt.Sprintf("%.2f", s.median()/ours.median())
				}
				if r.Work > 0 {
					line = append(line, number(r.Work/(s.median()/1e3)))
				}
			}
			if s.Error != "" {
				line = append(line, "failed: "+s.Error)
			}
			fmt.Fprintf(w, "  %s\n", strings.Join(line, "\t"))
		}
	}
}

// number has three digits or more.
func number(f float64) string {
	switch {
	case f < 10:
		return fmt.Sprintf("%.2f", f)
	case f < 100:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.0f", f)
}

// report is everything that a run found.
type report struct {
	Begun   time.Time `json:"begun"`
	Took    string    `json:"took"`
	Command []string  `json:"command"`
	Machine machine   `json:"machine"`
	Results []*result `json:"results"`
	Goals   []string  `json:"goals"`
	Notes   []string  `json:"notes,omitempty"`
}

func (r *report) text() string {
	var out strings.Builder
	out.WriteString(r.Machine.String())
	out.WriteString("ratio: median, divided by that of the library for APIs, of amphora for commands; kinds are not compared with each other\n")
	for _, res := range r.Results {
		out.WriteString("\n" + res.text())
	}
	if len(r.Goals) > 0 {
		out.WriteString("\nGoals\n")
		w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
		for _, g := range r.Goals {
			fmt.Fprintf(w, "  %s\n", g)
		}
		w.Flush()
	}
	for _, note := range r.Notes {
		fmt.Fprintf(&out, "\nNote: %s\n", note)
	}
	fmt.Fprintf(&out, "\nin all %s\n", r.Took)
	return out.String()
}

// save keeps the raw samples, and returns where.
func (r *report) save() (string, error) {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll("out", 0o755); err != nil {
		return "", err
	}
	path := filepath.Join("out", r.Begun.UTC().Format("20060102-150405")+".json")
	return path, os.WriteFile(path, data, 0o644)
}

// document writes the page of the last result.
func (r *report) document(path string) error {
	text := "# Benchmark\n\nThe last full run of `make bench` (" + strings.Join(r.Command, " ") + "). What is measured and how stands in " +
		"[bench/doc.go](../bench/doc.go); raw samples are kept in `bench/out/` of the machine that ran it.\n\n```\n" + r.text() + "```\n"
	return os.WriteFile(path, []byte(text), 0o644)
}
