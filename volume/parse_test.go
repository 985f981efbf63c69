package volume

import (
	"encoding/json"
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"
)

func TestParseVolume(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Mount
	}{
		{"/data", Mount{Type: Named, Target: "/data"}},
		{"db:/data", Mount{Type: Named, Source: "db", Target: "/data"}},
		{"db:/data:nocopy,ro", Mount{Type: Named, Source: "db", Target: "/data", NoCopy: true, ReadOnly: true}},
		{"db:/data:Z", Mount{Type: Named, Source: "db", Target: "/data", Relabel: "Z"}},
		{"/srv:/data", Mount{Type: Bind, Source: "/srv", Target: "/data", CreateSource: true}},
		{"/srv:/data:ro,rslave,z", Mount{Type: Bind, Source: "/srv", Target: "/data", CreateSource: true, ReadOnly: true, Propagation: "rslave", Relabel: "z"}},
		{"/:/host:bind", Mount{Type: Bind, Source: "/", Target: "/host", CreateSource: true, NonRecursive: true}},
		{"./src:/data:rw,cached", Mount{Type: Bind, Source: "./src", Target: "/data", CreateSource: true}},
		{"..:/data", Mount{Type: Bind, Source: "..", Target: "/data", CreateSource: true}},
	} {
		got, err := ParseVolume(c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
	for in, text := range map[string]string{
		"":                     "empty part",
		":":                    "empty part",
		"a:b:c:d":              "too many colons",
		"db:data":              "absolute path",
		"db:/":                 "cannot be /",
		"db:/x/..":             "cannot be /",
		"x:/data":              "two to 200",
		"-db:/data":            "invalid name",
		"/data:ro":             "options without a source",
		"/data:nocopy":         "options without a source",
		"db:/data:ro,rw":       "exclude each other",
		"db:/data:z,Z":         "exclude each other",
		"/a:/b:shared,rshared": "exclude each other",
		"db:/data:shared":      "is for binds",
		"/a:/b:nocopy":         "never filled",
		"db:/data:sticky":      `unknown option "sticky"`,
		"db:/data:ro,":         `unknown option ""`,
		"/a:/b\x00":            "NUL",
		"/a\x00:/b":            "NUL",
	} {
		if _, err := ParseVolume(in); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v; want an invalid argument with %q", in, err, text)
		}
	}
	for _, in := range []string{"/a:/b:O", "db:/data:U", "/a:/b:idmap"} {
		if _, err := ParseVolume(in); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%q: %v; want unsupported", in, err)
		}
	}
}

func TestParseMount(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Mount
	}{
		{"dst=/data", Mount{Type: Named, Target: "/data"}},
		{"source=db,target=/data", Mount{Type: Named, Source: "db", Target: "/data"}},
		{"TYPE=volume,src=db,destination=/data,volume-nocopy,volume-subpath=a/b", Mount{Type: Named, Source: "db", Target: "/data", NoCopy: true, Subpath: "a/b"}},
		{`src=db,dst=/data,volume-label=a=1,volume-label=b,volume-driver=local,"volume-opt=o=bind,ro"`, Mount{Type: Named, Source: "db", Target: "/data",
			Labels: map[string]string{"a": "1", "b": ""}, Driver: "local", DriverOptions: map[string]string{"o": "bind,ro"}}},
		{"type=bind,src=/srv,dst=/data,readonly,bind-propagation=rshared", Mount{Type: Bind, Source: "/srv", Target: "/data", ReadOnly: true, Propagation: "rshared"}},
		{"type=bind,src=/srv,dst=/data,readonly=false,bind-recursive=disabled", Mount{Type: Bind, Source: "/srv", Target: "/data", NonRecursive: true}},
		{"type=bind,src=/srv,dst=/data,ro=1,bind-recursive=writable", Mount{Type: Bind, Source: "/srv", Target: "/data", ReadOnly: true, ReadOnlyNonRecursive: true}},
		{"type=bind,src=./srv,dst=/data,bind-create-src", Mount{Type: Bind, Source: "./srv", Target: "/data", CreateSource: true}},
		{"type=tmpfs,dst=/run,tmpfs-size=64m,tmpfs-mode=1770", Mount{Type: Tmpfs, Target: "/run", TmpfsSize: 64 << 20, TmpfsMode: 0o770 | fs.ModeSticky}},
		{"type=image,src=alpine:3,dst=/x,image-subpath=etc,consistency=cached", Mount{Type: Image, Source: "alpine:3", Target: "/x", Subpath: "etc"}},
	} {
		got, err := ParseMount(c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
	for in, text := range map[string]string{
		"":                                      "not a list",
		"src=db":                                "target is empty",
		"db:/data":                              `unknown key "db:/data"`,
		"dst=/data,colour=red":                  `unknown key "colour"`,
		"dst":                                   "needs a value",
		"dst=":                                  "needs a value",
		"dst=/data,readonly=maybe":              "true or false",
		"dst=/data,type=npipe":                  `unknown type "npipe"`,
		"dst=/data,src=/srv":                    "use type bind",
		"type=bind,dst=/data":                   "needs a source",
		"type=bind,src=srv,dst=/data":           "absolute path of the host",
		"type=bind,src=/a,dst=/b,volume-nocopy": "no-copy does not apply",
		"type=tmpfs,src=x,dst=/b":               "no source",
		"type=tmpfs,dst=/b,tmpfs-size=-1":       "invalid size",
		"type=tmpfs,dst=/b,tmpfs-size=9999999t": "invalid size",
		"type=tmpfs,dst=/b,tmpfs-mode=888":      "invalid mode",
		"dst=/b,tmpfs-mode=777":                 "tmpfs mode does not apply",
		"type=image,dst=/b":                     "image's reference",
		"dst=/b,volume-subpath=../x":            "below the root",
		"dst=/b,volume-subpath=/x":              "below the root",
		"dst=/b,volume-label==x":                "key is empty",
		"type=bind,src=/a,dst=/b,bind-recursive=readonly": "need ReadOnly",
		"type=bind,src=/a,dst=/b,bind-propagation=x":      "unknown propagation",
		"dst=/b,consistency=x":                            "unknown consistency",
		"dst=/b\ndst=/c":                                  "line break",
	} {
		if _, err := ParseMount(in); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v; want an invalid argument with %q", in, err, text)
		}
	}
}

func TestParseTmpfs(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Mount
	}{
		{"/run", Mount{Type: Tmpfs, Target: "/run"}},
		{"/run:size=64m,mode=1770", Mount{Type: Tmpfs, Target: "/run", TmpfsSize: 64 << 20, TmpfsMode: 0o770 | fs.ModeSticky}},
		{"/run:ro,exec,uid=10", Mount{Type: Tmpfs, Target: "/run", ReadOnly: true, TmpfsOptions: []string{"exec", "uid=10"}}},
		{"/run:size=1GiB", Mount{Type: Tmpfs, Target: "/run", TmpfsSize: 1 << 30}},
	} {
		got, err := ParseTmpfs(c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"", "run", "/", "/run:", "/run:size=", "/run:size=1x", "/run:size=i", "/run:mode=17777", "/run:colour", "/run:uid=root"} {
		if _, err := ParseTmpfs(in); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: %v; want an invalid argument", in, err)
		}
	}
}

func TestMountJSON(t *testing.T) {
	m := Mount{Type: Tmpfs, Target: "/run", TmpfsSize: 1, TmpfsMode: 0o770 | fs.ModeSticky | fs.ModeSetgid, TmpfsOptions: []string{"exec"}}
	data, err := json.Marshal([]Mount{m, {Target: "/x"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"type":"tmpfs","target":"/run","tmpfsSize":1,"tmpfsOptions":["exec"],"tmpfsMode":"3770"},{"target":"/x"}]`; string(data) != want {
		t.Errorf("JSON %s, want %s", data, want)
	}
	var back []Mount
	if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back[0], m) {
		t.Errorf("back: %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"tmpfsMode":"rwx"}`), &m); err == nil {
		t.Error("a mode that is no number was accepted")
	}
}

func TestValidate(t *testing.T) {
	for text, m := range map[string]Mount{
		"permissions":   {Type: Tmpfs, Target: "/x", TmpfsMode: fs.ModeDir | 0o700},
		"exclude":       {Type: Bind, Source: "/a", Target: "/x", ReadOnly: true, ReadOnlyNonRecursive: true, ReadOnlyForceRecursive: true},
		"relabel":       {Type: Tmpfs, Target: "/x", Relabel: "z"},
		"driver":        {Type: Bind, Source: "/a", Target: "/x", Driver: "local"},
		"negative":      {Type: Tmpfs, Target: "/x", TmpfsSize: -1},
		"tmpfs option":  {Type: Tmpfs, Target: "/x", TmpfsOptions: []string{"size=1"}},
		"absolute path": {Type: Bind, Source: "./a", Target: "/x"},
	} {
		if err := m.Validate(); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v; want an invalid argument with %q", m, err, text)
		}
	}
	err := ValidateAll([]Mount{{Target: "/a"}, {Target: "/b"}, {Target: "/a/"}})
	if !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "mount /a: two mounts") {
		t.Errorf("two mounts on one target: %v", err)
	}
	if err := ValidateAll([]Mount{{Target: "/a"}, {Target: "/a/b"}}); err != nil {
		t.Error(err)
	}
}

// check is what holds for every mount that a parser returns.
func check(t *testing.T, in string, m Mount, err error) {
	if err != nil {
		if !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%q: error of no kind: %v", in, err)
		}
		return
	}
	if err := m.Validate(); err != nil && !isRelative(m.Source) {
		t.Errorf("%q: parsed but invalid: %v", in, err)
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var back Mount
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); string(again) != string(data) {
		t.Errorf("%q: %s became %s", in, data, again)
	}
}

func FuzzParseVolume(f *testing.F) {
	for _, s := range []string{"/data", "db:/data:ro,nocopy", "./a:/b:rslave,z", "a:b:c:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { m, err := ParseVolume(s); check(t, s, m, err) })
}

func FuzzParseMount(f *testing.F) {
	for _, s := range []string{"dst=/data", "type=bind,src=/a,dst=/b,ro", `type=tmpfs,dst=/x,"tmpfs-size=1g",tmpfs-mode=1777`, "volume-opt=a=b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { m, err := ParseMount(s); check(t, s, m, err) })
}

func FuzzParseTmpfs(f *testing.F) {
	for _, s := range []string{"/run", "/run:size=64m,mode=1770,exec,uid=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { m, err := ParseTmpfs(s); check(t, s, m, err) })
}
