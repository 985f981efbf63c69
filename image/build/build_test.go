package build

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/op"
)

// TestErrors wants each mistake to say where it is, what it is and, where the
// frontend has one, a suggestion.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name    string
		request Request
		line    int
		text    []string
		kind    error
	}{
		{"no stage", Request{Inline: dockerfile("# nothing")}, 1, []string{"no instructions"}, fs.ErrInvalid},
		{"empty", Request{Inline: []byte{}}, 0, []string{"empty"}, fs.ErrInvalid},
		{"unknown instruction", Request{Inline: dockerfile("FROM alpine", "", "RUNN make")}, 3, []string{"unknown instruction: RUNN", "did you mean RUN?"}, fs.ErrInvalid},
		{"no FROM", Request{Inline: dockerfile("RUN make")}, 1, []string{"no build stage in current context"}, fs.ErrInvalid},
		{"flag", Request{Inline: dockerfile("FROM alpine", "COPY --chmd=1 a b")}, 2, []string{"unknown flag: --chmd", "chmod"}, fs.ErrInvalid},
		{"heredoc without end", Request{Inline: dockerfile("FROM alpine", "RUN <<EOF", "x")}, 2, []string{"unterminated heredoc"}, fs.ErrInvalid},
		{"target", Request{Inline: dockerfile("FROM alpine AS tools"), Target: "tool"}, 0, []string{`"tool"`, "did you mean tools?"}, fs.ErrInvalid},
		{"base image", Request{Inline: dockerfile("FROM alpin")}, 1, []string{"alpin", "did you mean alpine?"}, fs.ErrNotExist},
		{"stage of COPY", Request{Inline: dockerfile("FROM alpine AS tools", "FROM alpine", "COPY --from=3 / /")}, 0, []string{"3"}, fs.ErrInvalid},
		{"loop", Request{Inline: dockerfile("FROM b AS a", "COPY --from=b / /", "FROM scratch AS b", "COPY --from=a / /")}, 2, []string{"circular"}, fs.ErrInvalid},
		{"platform", Request{Inline: dockerfile("FROM --platform=nonsense/x/y/z alpine")}, 1, []string{"platform"}, fs.ErrInvalid},
		{"requested platform", Request{Inline: dockerfile("FROM alpine"), Platforms: []string{"a/b/c/d"}}, 0, []string{"a/b/c/d"}, fs.ErrInvalid},
		{"syntax", Request{Inline: dockerfile("# syntax=evil/frontend:1", "FROM alpine")}, 1, []string{"evil/frontend:1"}, errors.ErrUnsupported},
		{"host network", Request{Inline: dockerfile("FROM alpine", "RUN --network=host true")}, 2, []string{"Request.Allow", "network.host"}, fs.ErrPermission},
		{"insecure", Request{Inline: dockerfile("FROM alpine", "RUN --security=insecure true")}, 2, []string{"Request.Allow", "security.insecure"}, fs.ErrPermission},
		{"device", Request{Inline: dockerfile("FROM alpine", "RUN --device=v.com/gpu=a true")}, 2, []string{"Request.Allow", "device=v.com/gpu=a"}, fs.ErrPermission},
		{"lint as error", Request{Inline: dockerfile("# check=error=true", "FROM alpine as x")}, 0, []string{"lint violation", "FromAsCasing"}, fs.ErrInvalid},
		{"checksum", Request{Inline: dockerfile("FROM alpine", "ADD --checksum=sha256:12 http://h/x /")}, 2, []string{"checksum"}, fs.ErrInvalid},
		{"missing Dockerfile", Request{Context: Context{FS: files("x", "1")}, Dockerfile: "Dokkerfile"}, 0, []string{"Dokkerfile"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := builder(t, newFake()).Build(t.Context(), &c.request)
			if err == nil {
				t.Fatal("no error")
			}
			t.Log(err)
			var e *Error
			if !errors.As(err, &e) || e.Op != "build" || e.First != c.line {
				t.Fatalf("%#v is not at line %d", err, c.line)
			}
			for _, text := range c.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %q", err, text)
				}
			}
			if c.kind != nil && !errors.Is(err, c.kind) {
				t.Errorf("%q is not %v", err, c.kind)
			}
			if c.line > 0 && (e.File != "Dockerfile" || !strings.Contains(e.Excerpt, ">>> ")) {
				t.Errorf("file %q, excerpt\n%s", e.File, e.Excerpt)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Error("the text has several lines")
			}
		})
	}
}

func TestFailedStep(t *testing.T) {
	e := newFake()
	exit := errors.New("exit code 7")
	e.fail = func(v *op.Vertex) error {
		if strings.Contains(v.Name, "make") {
			return exit
		}
		return nil
	}
	_, err := builder(t, e).Build(t.Context(), &Request{Inline: dockerfile("FROM alpine", "RUN true", "RUN make \\", "  all", "RUN after", "RUN x", "RUN y", "RUN z")})
	var be *Error
	if !errors.As(err, &be) || !errors.Is(err, exit) {
		t.Fatal(err)
	}
	if want := "build Dockerfile:3: [3/7] RUN make   all: exit code 7"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
	want := " 1 |     FROM alpine\n 2 |     RUN true\n 3 | >>> RUN make \\\n 4 | >>>   all\n 5 |     RUN after\n 6 |     RUN x\n 7 |     RUN y\n"
	if be.Excerpt != want || be.First != 3 || be.Last != 4 {
		t.Errorf("lines %d to %d,\n%s", be.First, be.Last, be.Excerpt)
	}
}

// TestAllow is the other side of the entitlements in TestErrors.
func TestAllow(t *testing.T) {
	text := dockerfile("FROM alpine", "RUN --network=host --security=insecure --device=v.com/gpu=a true")
	for _, r := range []Request{
		{Allow: []string{AllowHostNetwork, AllowInsecure, AllowDevice}},
		{Network: "host", Allow: []string{AllowInsecure, AllowDevice + "=v.com/gpu=a"}},
	} {
		r.Inline = text
		x := find(t, mustConvert(t, newFake(), &r).Targets[0].Tree, "true").Op.(*op.Exec)
		if x.Network != "host" || !x.Insecure || len(x.Devices) != 1 {
			t.Errorf("%+v", x)
		}
	}
}

func TestContexts(t *testing.T) {
	const text = "FROM alpine\nCOPY x /\n"
	dir := t.TempDir()
	write(t, dir, "sub/Other", text)
	write(t, dir, "sub/Other.dockerignore", "ignored\n")
	write(t, dir, "dockerfile", text)
	e := newFake()
	e.trees["https://git.example/r.git"] = files("Dockerfile", text, "b/Dockerfile", text)
	e.trees["http://h/Containerfile"] = files("context", text)
	for _, c := range []struct {
		name string
		r    Request
		want string // operation that COPY copies from
	}{
		{"directory, lower case", Request{Context: Context{Dir: dir}}, `{"Name":"context","Follow":["x"]}`},
		{"another name, its own ignore file", Request{Context: Context{Dir: dir}, Dockerfile: "sub/Other"}, `{"Name":"context","Exclude":["ignored"],"Follow":["x"]}`},
		{"outside of the context", Request{Context: Context{Dir: t.TempDir()}, Dockerfile: dir + "/sub/Other"}, `{"Name":"context","Exclude":["ignored"],"Follow":["x"]}`},
		{"fs.FS", Request{Context: Context{FS: files("Dockerfile", text)}}, `{"Name":"context","Follow":["x"]}`},
		{"git", Request{Context: Context{URL: "https://git.example/r.git#main:d"}}, `{"Remote":"https://git.example/r.git","Ref":"main","Dir":"d"}`},
		{"git, inline", Request{Context: Context{URL: "https://git.example/other.git"}, Inline: []byte(text)}, `{"Remote":"https://git.example/other.git"}`},
		{"http", Request{Context: Context{URL: "http://h/Containerfile"}}, `{"URL":"http://h/Containerfile","Filename":"context"}`},
		{"none", Request{Inline: []byte(text)}, `{"Name":"context","Follow":["x"]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := find(t, mustConvert(t, e, &c.r).Targets[0].Tree, "COPY x")
			if got := asJSON(t, v.Inputs[1].Vertex.Op); got != c.want {
				t.Errorf("copies from %s, want %s", got, c.want)
			}
		})
	}
}

func TestNamedContexts(t *testing.T) {
	layout := t.TempDir()
	write(t, layout, "index.json", `{"schemaVersion":2,"manifests":[{"digest":"`+string(digest.FromString(alpineConfig))+`","size":1,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`)
	d := digest.FromString(alpineConfig)
	r := &Request{
		Inline: dockerfile("FROM base", "COPY --from=dir a /", "COPY --from=lay b /", "COPY --from=res c /", "COPY --from=git d /", "COPY --from=img e /", "COPY --from=empty f /"),
		Contexts: map[string]Context{
			"base": {Image: "alpine"}, "dir": {FS: files(".dockerignore", "*.o")}, "lay": {Layout: layout, Ref: "v1"},
			"res": {Result: &Result{Manifest: string(d)}}, "git": {URL: "https://git.example/r.git#v2"}, "img:latest": {Image: "alpine"}, "empty": {},
		},
	}
	root := mustConvert(t, newFake(), r).Targets[0].Tree
	for _, c := range []struct{ step, want string }{
		{"dir a", `{"Name":"context-1","Exclude":["*.o"],"Follow":["a"]}`},
		{"lay b", `{"Name":"layout5","Ref":"docker.io/library/lay@` + string(d) + `"}`},
		{"res c", `{"Ref":"` + string(d) + `"}`},
		{"git d", `{"Remote":"https://git.example/r.git","Ref":"v2"}`},
		{"img e", `{"Ref":"docker.io/library/alpine:latest"}`},
		{"empty f", `{"Name":"context-2","Follow":["f"]}`},
	} {
		v := find(t, root, c.step)
		if got := asJSON(t, v.Inputs[1].Vertex.Op); got != c.want {
			t.Errorf("%s copies from %s, want %s", c.step, got, c.want)
		}
	}
}

func TestPlatforms(t *testing.T) {
	e := newFake()
	c := mustConvert(t, e, &Request{Inline: dockerfile("FROM --platform=$BUILDPLATFORM alpine AS tools", "RUN tool", "FROM alpine", "ARG TARGETARCH", "COPY --from=tools / /", "RUN for-$TARGETARCH"), Platforms: []string{"linux/amd64", "linux/arm64"}})
	if !c.Index || len(c.Targets) != 2 || platformText(c.Targets[1].Platform) != "linux/arm64" {
		t.Fatalf("%+v", c)
	}
	if find(t, c.Targets[0].Tree, "RUN tool") != find(t, c.Targets[1].Tree, "RUN tool") {
		t.Error("what both platforms need is done twice")
	}
	v := find(t, c.Targets[1].Tree, "RUN for-")
	if platformText(v.Platform) != "linux/arm64" {
		t.Errorf("runs on %s", platformText(v.Platform))
	}
	if !strings.Contains(string(c.Targets[1].Config), `"architecture":"arm64"`) {
		t.Errorf("config %s", c.Targets[1].Config)
	}
	if len(e.asked) != 2 {
		t.Errorf("asked for %q, want each platform once", e.asked)
	}
}

func TestEpoch(t *testing.T) {
	epoch := time.Unix(1700000000, 0)
	e := newFake()
	e.heads = map[string]*gitHead{"https://git.example/r.git": {Commit: strings.Repeat("a", 40), Object: []byte("tree " + strings.Repeat("b", 40) + "\nauthor A <a@b> 1600000000 +0000\ncommitter A <a@b> 1600000000 +0000\n\nx\n")}}
	e.trees["https://git.example/r.git"] = files("Dockerfile", "FROM alpine\nCOPY x /\n")
	for _, c := range []struct {
		r    Request
		want int64
	}{
		{Request{Inline: dockerfile("FROM alpine", "WORKDIR /x"), Epoch: &epoch}, 1700000000},
		{Request{Inline: dockerfile("FROM alpine"), Args: map[string]string{"SOURCE_DATE_EPOCH": "5"}}, 5},
		{Request{Context: Context{URL: "https://git.example/r.git"}, Args: map[string]string{"SOURCE_DATE_EPOCH": "context"}}, 1600000000},
	} {
		got := mustConvert(t, e, &c.r).Targets[0].Epoch
		if got == nil || got.Unix() != c.want {
			t.Errorf("epoch %v, want %d", got, c.want)
		}
	}
}

func TestCaching(t *testing.T) {
	text := dockerfile("FROM alpine AS a", "RUN one", "FROM a", "RUN two")
	for _, c := range []struct {
		r        Request
		one, two bool
	}{
		{Request{}, false, false}, {Request{NoCache: true}, true, true}, {Request{NoCacheFilter: []string{"a"}}, true, false},
	} {
		c.r.Inline = text
		root := mustConvert(t, newFake(), &c.r).Targets[0].Tree
		if one, two := find(t, root, "one").NoCache, find(t, root, "two").NoCache; one != c.one || two != c.two {
			t.Errorf("%+v: %v %v", c.r, one, two)
		}
	}
	for _, p := range []Pull{PullMissing, PullAlways, PullNever} {
		e := newFake()
		mustConvert(t, e, &Request{Inline: dockerfile("FROM alpine"), Pull: p})
		if want := map[Pull]string{PullMissing: "", PullAlways: "pull", PullNever: "local"}[p]; !strings.Contains(e.asked[0], " "+want+" ") {
			t.Errorf("%q asks for %q", p, e.asked)
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := builder(t, newFake()).Build(ctx, &Request{Inline: dockerfile("FROM alpine")}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
