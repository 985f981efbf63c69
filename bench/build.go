package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const (
	titleBuildAll  = "build of 30 steps in 4 stages, nothing from the cache, until the image is in the store"
	titleBuildSame = "build of 30 steps in 4 stages, nothing has changed"
	titleBuildBig  = "build with a context of 20,000 files, 200 MB, nothing has changed"

	nameWalk = "filepath.WalkDir with Info, one process"
)

// rowBuild measures builds that execute everything, and builds that execute
// nothing.
func (b *bench) rowBuild(ctx context.Context) ([]*result, error) {
	small := func(dir string) error { return writeContext(dir, 50, 2<<10, dockerfile()) }
	all, err := b.builders(ctx, "build", small, true)
	if err != nil {
		return nil, err
	}
	same, err := b.builders(ctx, "build", small, false)
	if err != nil {
		return nil, err
	}
	files, size := 20000, 10<<10
	if b.quick {
		files = 500
	}
	big, err := b.builders(ctx, "big", func(dir string) error {
		return writeContext(dir, files, size, "FROM "+imageName+"\nCOPY . /src\nRUN cat /src/d0/f0 >/dev/null\n")
	}, false)
	if err != nil {
		return nil, err
	}
	results := []*result{b.compare(ctx, titleBuildAll, b.n, all), b.compare(ctx, titleBuildSame, b.n, same), b.compare(ctx, titleBuildBig, b.n, big)}
	r := results[2]
	if walk, ours := r.find(nameWalk, api), r.find(nameLibrary, api); walk != nil && ours != nil && !b.quick {
		ratio := ours.median() / walk.median()
		r.Goals = append(r.Goals, line(ratio <= 2, "an unchanged big context at most twice a stat walk", fmt.Sprintf("%s / %s = %.2f", nameLibrary, nameWalk, ratio)))
	}
	return results, nil
}

// dockerfile has 30 steps; two stages need nothing of each other.
func dockerfile() string {
	var f strings.Builder
	from := func(as string) { fmt.Fprintf(&f, "FROM %s AS %s\nWORKDIR /%s\n", imageName, as, as) }
	run := func(from, to int) {
		for i := from; i <= to; i++ {
			fmt.Fprintf(&f, "RUN echo step %d >step%d && cat /bin/sh >bulk%d\n", i, i, i)
		}
	}
	from("deps")
	f.WriteString("COPY d0 ./d0\n")
	run(1, 5)
	from("code")
	f.WriteString("COPY d1 ./d1\nENV MODE=release\n")
	run(6, 10)
	from("docs")
	f.WriteString("COPY d2 ./d2\n")
	run(11, 14)
	from("final")
	f.WriteString("COPY --from=deps /deps /deps\nCOPY --from=code /code /code\nCOPY --from=docs /docs /docs\nCOPY . .\n")
	run(15, 16)
	f.WriteString("USER 1000\nEXPOSE 80\nENTRYPOINT [\"/bin/sh\"]\nCMD [\"-c\", \"true\"]\n")
	return f.String()
}

// writeContext makes a build context of so many files, 100 in each directory.
func writeContext(dir string, files, size int, dockerfile string) error {
	content := bytes.Repeat([]byte("0123456789abcde\n"), size/16)
	for i := range files {
		sub := filepath.Join(dir, fmt.Sprintf("d%d", i/100))
		if files < 300 {
			sub = filepath.Join(dir, fmt.Sprintf("d%d", i%3))
		}
		if err := os.MkdirAll(sub, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("f%d", i)), append(content, fmt.Sprint(i)...), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644)
}

// builders are all that build, each with a context of its own.
func (b *bench) builders(ctx context.Context, name string, write func(dir string) error, everything bool) (list []contender, err error) {
	context := func(who string) string {
		dir := b.site.path("contexts", name+"-"+who)
		if err == nil && !exists(dir) {
			err = write(dir)
		}
		return dir
	}
	a, word, flags := b.amphora, "same", []string{}
	if everything {
		word, flags = "all", []string{"--no-cache"}
	}
	warm, werr := b.work("build", a.root, a.state, a.helper, context("library"), "bench-"+name+"-library")
	if werr != nil {
		return nil, werr
	}
	list = []contender{{name: nameLibrary, kind: api, do: warm.asks(word)}}
	if name == "big" {
		list = append(list, contender{name: nameWalk, kind: api, do: warm.asks("walk")})
	}
	build := func(head ...string) []string { return append(head, flags...) }
	if a.cli != nil {
		list = append(list, b.command(nameCLI, a.cli, append(build("build", "-q"), "-t", "bench-"+name, context("cli"))...),
			b.command(nameHelper, a.cliHelper, append(build("build", "-q"), "-t", "bench-"+name+"-helper", context("helper"))...))
	}
	if d := b.docker; d != nil {
		kit := *d.cli
		kit.env = append([]string{"DOCKER_BUILDKIT=1"}, d.cli.env...)
		list = append(list, b.command("docker build, BuildKit", &kit, append(build("build", "-q"), "-t", "bench-"+name, context("docker"))...),
			contender{name: "docker API, classic builder", kind: api, do: d.classic(context("classic"), everything)})
	}
	if p := b.podman; p != nil {
		if path, e := exec.LookPath("buildah"); e == nil {
			t := &tool{dir: p.cli.dir, argv: []string{path, "--root", p.dir + "/root", "--runroot", b.site.state("podman"), "--storage-driver", "overlay"}}
			list = append(list, b.command("buildah bud, chroot", t, append(build("bud", "-q", "--layers", "--isolation", "chroot", "--pull=false"), "-t", "bench-"+name, context("buildah"))...))
		}
	}
	return list, err
}

// classic builds by the API alone, which cannot use BuildKit without a session:
// the context goes as an archive.
func (d *docker) classic(dir string, everything bool) func(context.Context) (time.Duration, error) {
	path := "http://docker/build?t=bench-classic"
	if everything {
		path += "&nocache=1"
	}
	return timed(func(ctx context.Context) error {
		r, w := io.Pipe()
		go func() {
			t := tar.NewWriter(w)
			err := t.AddFS(os.DirFS(dir))
			if err == nil {
				err = t.Close()
			}
			w.CloseWithError(err)
		}()
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, path, r)
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-tar")
		resp, err := d.client.http.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode >= 400 || bytes.Contains(text, []byte(`"errorDetail"`))) {
			err = fmt.Errorf("docker: build: %s: %s", resp.Status, tail(text))
		}
		return err
	})
}
