package amphora_test

import (
	"flag"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the part of README.md that comes from doc.go")

// The first screen of README.md stands between these marks.
const (
	readmeBegin = "<!-- doc.go -->\n"
	readmeEnd   = "<!-- /doc.go -->\n"
)

// TestReadmeOpensWithPackageComment keeps one text in two places. Mend it with
// "make readme".
func TestReadmeOpensWithPackageComment(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	var p comment.Parser
	printer := comment.Printer{HeadingLevel: 2, HeadingID: func(*comment.Heading) string { return "" }}
	want := "\n" + fenced(string(printer.Markdown(p.Parse(f.Doc.Text())))) + "\n"
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(data)
	before, rest, ok1 := strings.Cut(readme, readmeBegin)
	got, after, ok2 := strings.Cut(rest, readmeEnd)
	if !ok1 || !ok2 {
		t.Fatalf("README.md lacks the marks %q and %q", readmeBegin, readmeEnd)
	}
	if got == want {
		return
	}
	if *update {
		if err := os.WriteFile("README.md", []byte(before+readmeBegin+want+readmeEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("README.md and doc.go differ: make readme\n--- README.md\n%s\n--- doc.go\n%s", got, want)
}

// fenced turns indented code into fenced code, which renders with colours.
func fenced(markdown string) string {
	var out []string
	inside := false
	lines := strings.Split(strings.TrimSpace(markdown), "\n")
	for n, line := range lines {
		text, indented := strings.CutPrefix(line, "\t")
		switch {
		case indented && !inside:
			out, inside = append(out, "```go"), true
		case inside && !indented && line != "",
			inside && line == "" && (n+1 == len(lines) || !strings.HasPrefix(lines[n+1], "\t")):
			out, inside = append(out, "```"), false
		}
		if !indented {
			text = line
		}
		out = append(out, text)
	}
	if inside {
		out = append(out, "```")
	}
	return strings.Join(out, "\n") + "\n"
}

var mdLink = regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)

// TestLinksInDocuments: what a page points at exists.
func TestLinksInDocuments(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("%v, %v", pages, err)
	}
	for _, page := range pages {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mdLink.FindAllStringSubmatch(string(data), -1) {
			if _, err := os.Stat(filepath.FromSlash(m[1])); err != nil {
				t.Errorf("%s points at %s, which is not there", page, m[1])
			}
		}
	}
}
