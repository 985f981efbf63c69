package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// titleLogs is followed by how the lines are written.
const titleLogs = "log lines of 100 bytes, from start to exit, "

// rowLogs measures how fast a container's output gets into its log, in files
// of JSON lines (docker, amphora) or Kubernetes' format (podman). That every
// line arrived is checked each time.
func (b *bench) rowLogs(ctx context.Context) ([]*result, error) {
	lines := 1_000_000
	if b.quick {
		lines = 100_000
	}
	keeper, err := b.work("detach", b.amphora.root, b.amphora.state, "", "none", imageName)
	if err != nil {
		return nil, err
	}
	defer keeper.close()
	var results []*result
	for _, mode := range []struct{ arg, text string }{{"line", "one write each"}, {"block", "written 64 KiB at a time"}} {
		l := logs{b: b, lines: lines, command: []string{"spew", strconv.Itoa(lines), mode.arg}}
		r := b.compare(ctx, fmt.Sprintf("%d %s%s", lines, titleLogs, mode.text), max(3, b.n/2), l.contenders(keeper))
		r.Work, r.Item = float64(lines), "lines"
		results = append(results, r)
	}
	return results, nil
}

// logs is the measurement of one way of writing.
type logs struct {
	b       *bench
	lines   int
	command []string
}

const logsName = "bench-logs"

func (l *logs) contenders(keeper *worker) []contender {
	list := []contender{l.library(keeper)}
	if cli := l.b.amphora.cli; cli != nil {
		list = append(list, l.cli(nameCLI, cli, []string{"run", "--network", "none"}, imageName, l.b.amphora.findLog))
	}
	if d := l.b.docker; d != nil {
		list = append(list, l.dockerAPI(d), l.cli("docker run", d.cli, d.run(), d.image, dockerLog))
	}
	if p := l.b.podman; p != nil {
		list = append(list, l.cli("podman run", p.cli, p.run("--log-driver", "k8s-file"), p.image, podmanLog))
	}
	return list
}

func (l *logs) library(keeper *worker) contender {
	var path string
	remove := "remove " + logsName
	return contender{name: nameLibrary, kind: api,
		do: func(ctx context.Context) (time.Duration, error) {
			start, _, err := keeper.ask(ctx, "start "+logsName+" "+strings.Join(l.command, " "))
			if err != nil {
				return 0, err
			}
			wait, id, err := keeper.ask(ctx, "wait "+logsName)
			path = l.b.amphora.log(id)
			return start + wait, err
		},
		after: func(ctx context.Context) error {
			if err := l.check(path, newline); err != nil {
				return err
			}
			_, _, err := keeper.ask(ctx, remove)
			return err
		},
		undo: func(ctx context.Context) { keeper.ask(ctx, remove) }}
}

func (l *logs) dockerAPI(d *docker) contender {
	return contender{name: "docker API", kind: api,
		do: timed(func(ctx context.Context) error {
			id, err := d.client.create(ctx, logsName, d.image, l.command...)
			if err != nil {
				return err
			}
			if err := d.client.start(ctx, id); err != nil {
				return err
			}
			return d.client.wait(ctx, id)
		}),
		after: func(ctx context.Context) error { return l.checkAndRemove(ctx, d.cli, dockerLog) },
		undo:  func(ctx context.Context) { d.client.remove(ctx, logsName) }}
}

func (l *logs) cli(name string, t *tool, run []string, image string, find findLog) contender {
	args := append(append(run, "-d", "--name", logsName, image), l.command...)
	return contender{name: name, kind: command,
		do: timed(func(ctx context.Context) error {
			if err := t.run(ctx, args...); err != nil {
				return err
			}
			return t.run(ctx, "wait", logsName)
		}),
		after: func(ctx context.Context) error { return l.checkAndRemove(ctx, t, find) },
		undo:  func(ctx context.Context) { t.run(ctx, "rm", "-f", logsName) }}
}

func (l *logs) checkAndRemove(ctx context.Context, t *tool, find findLog) error {
	text, err := t.output(ctx, nil, "inspect", logsName)
	if err != nil {
		return err
	}
	var all []inspected
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return err
	}
	if err := l.check(find(&all[0])); err != nil {
		return err
	}
	return t.run(ctx, "rm", logsName)
}

// inspected is what leads to the log in what inspect says.
type inspected struct {
	ID         string
	LogPath    string                                    // docker
	HostConfig struct{ LogConfig struct{ Path string } } // podman
}

// findLog returns the file of a log, and what ends each line of the container
// in it and nothing else.
type findLog func(*inspected) (path, mark string)

const newline = "\n"

func (a *amphora) log(id string) string { return filepath.Join(a.root, "containers", id, "log") }

func (a *amphora) findLog(i *inspected) (string, string) { return a.log(i.ID), newline }

func dockerLog(i *inspected) (string, string) { return i.LogPath, `\n","stream":"stdout"` }

// podmanLog knows that podman marks pieces of lines by P, the last piece by F.
func podmanLog(i *inspected) (string, string) { return i.HostConfig.LogConfig.Path, " stdout F " }

// check counts the lines of a log.
func (l *logs) check(path, mark string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n := 0
	// What is at the end of a piece may be half a mark: it is kept for the next.
	for buf, kept := make([]byte, 1<<20), 0; ; {
		read, err := f.Read(buf[kept:])
		have := buf[:kept+read]
		n += bytes.Count(have, []byte(mark))
		kept = copy(buf, have[max(len(have)-len(mark)+1, 0):])
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if n != l.lines {
		return fmt.Errorf("%s has %d lines instead of %d", path, n, l.lines)
	}
	return nil
}
