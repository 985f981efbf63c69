package main

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const titleParallelAttach = "%d attaches at once from %d new processes, on a network that has no bridge yet"

// crowd is bare namespaces, numbered.
type crowd []*namespace

func newCrowd(n int) (crowd, error) {
	var c crowd
	for range n {
		ns, err := newNamespace()
		if err != nil {
			c.close()
			return nil, err
		}
		c = append(c, ns)
	}
	return c, nil
}

func (c crowd) close() {
	for _, ns := range c {
		ns.close()
	}
}

// words are what the program "attach" is told of some of them. Numbers are
// those of the first.
func (c crowd) words(first int) string {
	var words []string
	for i, ns := range c {
		words = append(words, fmt.Sprintf("%s=%s", crowdName(first+i), ns.path()))
	}
	return strings.Join(words, " ")
}

func crowdName(i int) string { return fmt.Sprintf("bench-ns-%d", i) }

func crowdNames(first, n int) string {
	var names []string
	for i := range n {
		names = append(names, crowdName(first+i))
	}
	return strings.Join(names, " ")
}

// rowAttach measures what happens when many processes attach at once, on a
// host where nothing is prepared: no bridge, no rules.
func (b *bench) rowAttach(ctx context.Context) ([]*result, error) {
	const processes, each = 5, 10
	title := fmt.Sprintf(titleParallelAttach, processes*each, processes)
	c := &coldAttach{b: b, processes: processes, each: each}
	r := b.compare(ctx, title, b.n, []contender{{name: nameLibrary, kind: api, before: c.prepare, do: c.attach, after: c.check, undo: c.undo}})
	r.Notes = append(r.Notes, "from the start of the processes until the last has both addresses (IPv4 and IPv6); that no address is given twice is checked each time")
	if s := r.find(nameLibrary, api); s != nil {
		r.Goals = []string{line(s.median() <= 1000 && s.Error == "", "50 parallel attaches from 5 processes in 1 s", fmt.Sprintf("%.0f ms, p90 %.0f", s.median(), quantile(s.Samples, 0.9)))}
	}
	return []*result{r}, nil
}

// coldAttach is one sample of rowAttach: a host, a store, namespaces, and the
// processes.
type coldAttach struct {
	b               *bench
	processes, each int

	round     int
	host      *namespace
	store     [2]string // root and state
	crowd     crowd
	workers   []*worker
	addresses []string
}

func (c *coldAttach) prepare(ctx context.Context) error {
	c.round++
	c.workers, c.addresses = nil, nil
	var err error
	if c.host, err = newNamespace(); err != nil {
		return err
	}
	if c.crowd, err = newCrowd(c.processes * c.each); err != nil {
		return err
	}
	dir := fmt.Sprintf("attach-%d", c.round)
	c.store = [2]string{c.b.site.path(dir, "root"), c.b.site.state(dir)}
	w, err := c.work()
	if err != nil {
		return err
	}
	defer w.close()
	_, _, err = w.ask(ctx, "create bench 10.77.0.0/16 fd77::/64")
	return err
}

func (c *coldAttach) work() (*worker, error) {
	return c.b.workIn(c.host, "attach", c.store[0], c.store[1])
}

func (c *coldAttach) attach(ctx context.Context) (time.Duration, error) {
	begin := time.Now()
	for range c.processes {
		w, err := c.work()
		if err != nil {
			return 0, err
		}
		c.workers = append(c.workers, w)
	}
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, c.processes)
	for i, w := range c.workers {
		go func() {
			_, text, err := w.ask(ctx, "attach bench "+c.crowd[i*c.each:(i+1)*c.each].words(i*c.each))
			answers <- answer{text, err}
		}()
	}
	var err error
	for range c.processes {
		a := <-answers
		c.addresses = append(c.addresses, strings.Fields(a.text)...)
		if a.err != nil {
			err = a.err
		}
	}
	return time.Since(begin), err
}

// check counts the addresses and takes all back.
func (c *coldAttach) check(ctx context.Context) error {
	distinct := map[string]bool{}
	for _, a := range c.addresses {
		distinct[a] = true
	}
	if want := 2 * c.processes * c.each; len(c.addresses) != want || len(distinct) != want {
		return fmt.Errorf("%d addresses, %d distinct ones, instead of %d", len(c.addresses), len(distinct), want)
	}
	for i, w := range c.workers {
		if _, _, err := w.ask(ctx, "detach "+crowdNames(i*c.each, c.each)); err != nil {
			return err
		}
	}
	c.undo(ctx)
	return nil
}

func (c *coldAttach) undo(context.Context) {
	for _, w := range c.workers {
		w.close()
	}
	c.crowd.close()
	if c.host != nil {
		c.host.close()
	}
}
