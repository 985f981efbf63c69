package build

import (
	"slices"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/build/op"
)

// TestTranslate looks at what each instruction becomes. The JSON of an
// operation is part of the cache's keys, so it must have all that matters.
func TestTranslate(t *testing.T) {
	const digestOfBase = "@sha256:"
	r := &Request{
		Inline: dockerfile(
			"FROM alpine AS base",
			"RUN one",
			"FROM base AS tools",
			"USER app",
			"RUN --mount=type=cache,target=/c,id=c1,sharing=locked,uid=7 \\",
			"    --mount=type=secret,id=s1,target=/run/s,required=true,mode=0440 \\",
			"    --mount=type=secret,id=s2,env=TOKEN \\",
			"    --mount=type=ssh,id=a1 \\",
			"    --mount=type=tmpfs,from=base,target=/t,size=4096 \\",
			"    --mount=type=bind,from=base,source=/etc,target=/b,rw \\",
			"    --network=none two",
			"FROM base",
			"WORKDIR /w",
			"COPY --chown=app:12 --chmod=640 --exclude=*.o a b* dir/",
			"COPY --link --from=tools /x /y",
			"COPY --parents p/./q/r /z/",
			"COPY <<EOF /here",
			"text",
			"EOF",
			"ADD --checksum=sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa https://h/f.tar /u",
			"ADD https://git.example/r.git#v1:sub /g",
			"ADD t.tar.gz /unpacked",
			"RUN three",
		),
		Context:    Context{FS: files("a", "1", ".dockerignore", "*.tmp\n")},
		ExtraHosts: []string{"db:10.1.2.3", "host:host-gateway"}, Ulimits: []Ulimit{{"nofile", 10, 20}}, ShmSize: 1 << 20,
		Hostname: "h", CgroupParent: "/g", Args: map[string]string{"HTTP_PROXY": "http://p"},
		Resources: Resources{Memory: 1 << 30, CPUSet: "0"},
	}
	c := mustConvert(t, newFake(), r)
	root := c.Targets[0].Tree
	for _, want := range []struct{ name, json string }{
		{"FROM", `{"Ref":"docker.io/library/alpine:latest` + digestOfBase},
		{"RUN one", `{"Args":["/bin/sh","-c","one"],"Env":["PATH=/bin","BASE=1"],"Dir":"/","User":"nobody","Hostname":"h","Ulimits":[{"Name":"nofile","Soft":10,"Hard":20}],"CgroupParent":"/g",`},
		{"RUN one", `{"Type":"bind","Target":"/","Input":0,"Output":0}`},
		{"RUN one", `{"Type":"tmpfs","Target":"/dev/shm","Input":-1,"Output":-1,"Size":1048576}`},
		{"two", `"User":"app"`},
		{"two", `"Network":"none"`},
		{"two", `{"Type":"cache","Target":"/c","Input":1,"Selector":"/cache","Output":-1}`},
		{"two", `{"Type":"secret","Target":"/run/s","Input":-1,"Output":-1,"ID":"s1","Mode":288}`},
		{"two", `{"Type":"ssh","Target":"/run/buildkit/ssh_agent.0","Input":-1,"Output":-1,"ID":"a1","Mode":384,"Optional":true}`},
		{"two", `{"Type":"tmpfs","Target":"/t","Input":-1,"Output":-1,"Size":4096}`},
		{"two", `{"Type":"bind","Target":"/b","Input":0,"Selector":"/etc","Output":-1}`},
		{"two", `"SecretEnv":[{"ID":"s2","Name":"TOKEN","Optional":true}]`},
		{"WORKDIR", `{"Base":0,"Actions":[{"Mkdir":{"Path":"/w","Mode":493,"Parents":true,"Owner":{"User":{"Name":"nobody"},"Group":null}}}]}`},
		{"COPY --chown", `{"Base":0,"Actions":[{"Copy":{"From":1,"Source":"/a","Target":"/w/dir/","Owner":{"User":{"Name":"app"},"Group":{"Number":12}},"Mode":416,"HasMode":true,"FollowLinks":true,"Contents":true,"MakeTarget":true,"Wildcards":true,"AllowNoMatch":true,"Exclude":["*.o"]}},{"Copy":{"From":1,"Source":"/b*","Target":"/w/dir/","Owner":{"User":{"Name":"app"},`},
		{"COPY --parents", `"Include":["q/r"]`},
		{"COPY <<EOF", `"Actions":[{"Copy":{"From":1,"Source":"/EOF","Target":"/here"`},

		{"https://h/f.tar", `{"URL":"https://h/f.tar","Checksum":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","Filename":"f.tar"}`},
		{"git.example/r.git", `{"Remote":"https://git.example/r.git","Ref":"v1","Dir":"sub"}`},
		{"ADD t.tar.gz", `"Unpack":true`},
		{"load build context", `{"Name":"context","Exclude":["*.tmp"],"Follow":["a","b*","p/q/r","t.tar.gz"]}`},
	} {
		v := find(t, root, want.name)
		if got := asJSON(t, v.Op); !strings.Contains(got, want.json) {
			t.Errorf("%s is\n\t%s\nand lacks\n\t%s", v.Name, got, want.json)
		}
	}

	two := find(t, root, "two").Op.(*op.Exec)
	if i := slices.IndexFunc(two.Mounts, func(m op.Mount) bool { return m.Type == op.Cache }); i < 0 || two.Mounts[i].CacheID != "/c1" && two.Mounts[i].CacheID != "c1" || two.Mounts[i].Sharing != op.Locked {
		t.Errorf("the cache mount is %+v", two.Mounts)
	}
	if h := two.ExtraHosts; len(h) != 2 || h[0] != (op.Host{Name: "db", Address: "10.1.2.3"}) || h[1] != (op.Host{Name: "host", Address: "host-gateway"}) {
		t.Errorf("hosts: %v", h)
	}
	if !slices.Equal(two.Proxy, []string{"HTTP_PROXY=http://p", "http_proxy=http://p"}) {
		t.Errorf("proxy: %q", two.Proxy)
	}
	one := find(t, root, "RUN one")
	if one.Limits == nil || one.Limits.Memory != 1<<30 || one.Limits.CPUs != "0" {
		t.Errorf("limits: %+v", one.Limits)
	}
	if got := find(t, root, "two").Places; len(got) != 1 || got[0] != (op.Place{File: "Dockerfile", First: 5, Last: 11}) {
		t.Errorf("the command stands at %+v", got)
	}
	if v := find(t, root, "COPY --link"); v.Op.Kind() != "merge" && len(v.Inputs) == 0 {
		t.Errorf("COPY --link is %s", asJSON(t, v.Op))
	}
	if !slices.ContainsFunc(vertices(root), func(v *op.Vertex) bool { return v.Op.Kind() == "merge" && len(v.Inputs) == 2 }) {
		t.Error("COPY --link makes no merge")
	}
	if one != find(t, find(t, root, "two").Inputs[0], "RUN one") {
		t.Error("the same step is two vertices")
	}
}
