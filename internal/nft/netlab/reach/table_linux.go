package reach

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Question is how a target is asked.
type Question struct {
	Network string // tcp, udp
	V6      bool
}

func (q Question) String() string {
	if q.V6 {
		return q.Network + "6"
	}
	return q.Network + "4"
}

// Questions are all four.
var Questions = []Question{{"tcp", false}, {"udp", false}, {"tcp", true}, {"udp", true}}

// Answer is how a question went.
type Answer struct {
	Want, Got bool
	Asked     bool   // false: there is nothing to ask
	Wrong     string // what came instead; empty unless Want is not Got, or somebody else answered
}

// Cell is the answers to a place, in the order of Questions.
type Cell [4]Answer

// Table is what was asked in a world at one time: a row for each place, a
// column for each target.
type Table struct {
	Rows, Columns []string
	Cells         [][]Cell
}

// How long is waited for what must come, and for what must not.
const (
	patience = 10 * time.Second
	silence  = 500 * time.Millisecond
	atOnce   = 64 // questions
)

// Ask asks everything from everywhere.
func (w *World) Ask() *Table {
	w.t.Helper()
	table := &Table{}
	for _, target := range w.Targets {
		table.Columns = append(table.Columns, target.Name)
	}
	var wg sync.WaitGroup
	free := make(chan struct{}, atOnce)
	for _, p := range w.Places {
		row := make([]Cell, len(w.Targets))
		table.Rows, table.Cells = append(table.Rows, p.Name), append(table.Cells, row)
		for i := range w.Targets {
			for j, q := range Questions {
				free <- struct{}{}
				wg.Go(func() {
					row[i][j] = w.ask(p, &w.Targets[i], q)
					<-free
				})
			}
		}
	}
	wg.Wait()
	return table
}

func (w *World) ask(p *Place, target *Target, q Question) Answer {
	a := Answer{Want: slices.Contains(target.From, p.Name)}
	addr, ok := target.at(p, q)
	if a.Asked = ok; !ok {
		a.Want = false
		return a
	}
	wait := silence
	if a.Want {
		wait = patience
	}
	if target.Host != "" {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		found, err := p.NS.Lookup(ctx, "127.0.0.11:53", map[bool]string{true: "ip6", false: "ip4"}[q.V6], target.Host)
		if err != nil || len(found) == 0 {
			if a.Want {
				a.Wrong = fmt.Sprintf("the name %s: %v", target.Host, err)
			}
			return a
		}
		addr = net.JoinHostPort(found[0].String(), strconv.Itoa(target.Port))
	}
	server, saw, err := p.NS.AskFrom(q.Network, "", addr, wait)
	a.Got = err == nil
	switch {
	case a.Got && server != target.Server:
		a.Wrong = fmt.Sprintf("%s answered", server)
	case a.Got && target.Seen != nil && saw != target.Seen(p, q.V6):
		a.Wrong = "seen as " + saw
	case a.Got != a.Want:
		a.Wrong = fmt.Sprintf("%s: answered %v (%v), want %v", addr, a.Got, err, a.Want)
	}
	return a
}

// at is where a place asks; false if that is no question, as it has no resolver.
func (t *Target) at(p *Place, q Question) (string, bool) {
	if slices.Contains(t.Never, p.Name) {
		return "", false
	}
	if t.Host != "" {
		return "", p.Resolver
	}
	addr := t.Addr(p, q.V6)
	return net.JoinHostPort(addr, strconv.Itoa(t.Port)), addr != ""
}

// Wrong lists what is not as it should be.
func (t *Table) Wrong() (all []string) {
	for i, row := range t.Cells {
		for j, cell := range row {
			for k, a := range cell {
				if a.Wrong != "" {
					all = append(all, fmt.Sprintf("%s -> %s, %s: %s", t.Rows[i], t.Columns[j], Questions[k], a.Wrong))
				}
			}
		}
	}
	return all
}

// Count is how many questions were asked, and answered.
func (t *Table) Count() (asked, reached int) {
	for _, row := range t.Cells {
		for _, cell := range row {
			for _, a := range cell {
				if a.Asked {
					asked++
				}
				if a.Got {
					reached++
				}
			}
		}
	}
	return asked, reached
}

func (c Cell) String() string {
	var reached, wrong []string
	asked := 0
	for i, a := range c {
		if a.Asked {
			asked++
		}
		if a.Got {
			reached = append(reached, Questions[i].String())
		}
		if a.Wrong != "" {
			wrong = append(wrong, Questions[i].String())
		}
	}
	s := strings.Join(reached, " ")
	switch {
	case asked == 0:
		s = "n/a"
	case len(reached) == 0:
		s = "–"
	case len(reached) == asked:
		s = "yes"
	}
	if len(wrong) > 0 {
		s += " **WRONG: " + strings.Join(wrong, " ") + "**"
	}
	return s
}

// Markdown writes the targets as rows: there are more of them than of places.
func (t *Table) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| to \\ from | %s |\n|---|%s\n", strings.Join(t.Rows, " | "), strings.Repeat("---|", len(t.Rows)))
	for j, name := range t.Columns {
		fmt.Fprintf(&b, "| %s |", name)
		for i := range t.Rows {
			fmt.Fprintf(&b, " %s |", t.Cells[i][j])
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Same says whether two tables say the same.
func (t *Table) Same(o *Table) bool { return t.Markdown() == o.Markdown() }
