package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
)

// rowResume measures what no clock tells: how many bytes a pull moves that goes
// on where another was cut, and how much memory a pull takes.
func (b *bench) rowResume(ctx context.Context) ([]*result, error) {
	s, err := b.sampleImage(ctx)
	if err != nil {
		return nil, err
	}
	resumed, err := b.resumes(ctx, s)
	if err != nil {
		return nil, err
	}
	memory, err := b.pullMemory(ctx, s)
	return []*result{resumed, memory}, err
}

// cut is a proxy to a registry that ends all connections after some bytes.
type cut struct {
	*httptest.Server
	moved atomic.Int64 // bytes of blobs
	limit atomic.Int64
}

func newCut(to string) *cut {
	c := &cut{}
	c.limit.Store(1 << 62)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	proxy.FlushInterval = -1
	proxy.ModifyResponse = func(resp *http.Response) error {
		if strings.Contains(resp.Request.URL.Path, "/blobs/") && resp.Request.Method == http.MethodGet {
			resp.Body = &cutBody{resp.Body, c}
		}
		return nil
	}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.moved.Load() >= c.limit.Load() {
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	}))
	return c
}

type cutBody struct {
	io.ReadCloser
	c *cut
}

func (b *cutBody) Read(p []byte) (int, error) {
	left := b.c.limit.Load() - b.c.moved.Load()
	if left <= 0 {
		return 0, errors.New("cut")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), left, 64<<10)])
	b.c.moved.Add(int64(n))
	return n, err
}

func (b *bench) resumes(ctx context.Context, s *sampleImage) (*result, error) {
	r := &result{Title: "a pull that was cut at half of its bytes, " + s.about, Load: loadAverage(), Table: [][]string{{"run", "MB of the image", "MB moved by the second pull", "%"}}}
	worst := 0.0
	for i := range 3 {
		c := newCut(s.reg.host)
		host := strings.TrimPrefix(c.URL, "http://")
		dir := b.site.path(fmt.Sprint("resume-", i))
		t := &tool{argv: []string{b.site.path("bin", "amphora"), "-root", dir + "/root", "-state", dir + "/state", "-insecure", host}, dir: b.site.dir}
		ref := host + "/bench/moved:latest"
		whole, err := blobBytes(ctx, s)
		if err != nil {
			return nil, err
		}
		c.limit.Store(whole / 2)
		if err := t.run(ctx, "pull", "-q", ref); err == nil {
			return nil, errors.New("a pull that was cut succeeded")
		}
		c.moved.Store(0)
		c.limit.Store(1 << 62)
		err = t.run(ctx, "pull", "-q", ref)
		moved := c.moved.Load()
		c.Close()
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return nil, err
		}
		percent := 100 * float64(moved) / float64(whole)
		worst = max(worst, percent)
		r.Table = append(r.Table, []string{fmt.Sprint(i + 1), fmt.Sprint(whole / 1e6), fmt.Sprint(moved / 1e6), fmt.Sprintf("%.1f", percent)})
	}
	r.Goals = append(r.Goals, line(worst <= 55, "a pull cut at 50 % continues and moves at most 55 % of the bytes", fmt.Sprintf("%.1f %% at most", worst)))
	return r, nil
}

// blobBytes is what a whole pull moves.
func blobBytes(ctx context.Context, s *sampleImage) (int64, error) {
	c := newCut(s.reg.host)
	defer c.Close()
	host := strings.TrimPrefix(c.URL, "http://")
	dir, err := os.MkdirTemp("", "bench-whole-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	_, err = s.ask("pull", dir+"/root", dir+"/state", host+"/bench/moved:latest")(ctx)
	return c.moved.Load(), err
}

// pullMemory measures the largest resident size of a program that pulls.
func (b *bench) pullMemory(ctx context.Context, s *sampleImage) (*result, error) {
	r := &result{Title: "memory of a pull, " + s.about, Load: loadAverage(), Table: [][]string{{"run", "MiB resident at most"}}}
	worst := int64(0)
	for i := range max(3, b.n/4) {
		dir := b.site.path(fmt.Sprint("memory-", i))
		cmd := exec.CommandContext(ctx, b.site.path("bin", "amphora"), "-root", dir+"/root", "-state", dir+"/state", "-insecure", s.reg.host, "pull", "-q", s.ref)
		out, err := cmd.CombinedOutput()
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return nil, fmt.Errorf("%w: %s", err, tail(out))
		}
		kib := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss
		worst = max(worst, kib)
		r.Table = append(r.Table, []string{fmt.Sprint(i + 1), fmt.Sprintf("%.1f", float64(kib)/1024)})
	}
	r.Goals = append(r.Goals, line(worst <= 64<<10, "memory of a pull at most 64 MiB", fmt.Sprintf("%.1f MiB at most", float64(worst)/1024)))
	return r, nil
}
