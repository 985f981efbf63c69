package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/container"
)

// sample has a flag of each kind.
type sample struct {
	in, tty bool
	name    string
	env     []string
	memory  int64
}

func (s *sample) flags() *flags {
	f := newFlags()
	f.bool(&s.in, "i,interactive", "")
	f.bool(&s.tty, "t,tty", "")
	f.text(&s.name, "name", "")
	f.list(&s.env, "e,env", "")
	value(f, &s.memory, "m,memory", "", parseBytes)
	return f
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		want sample
		rest string
	}{
		{"img cmd -i", sample{}, "img cmd -i"},
		{"-it img -m 5", sample{in: true, tty: true}, "img -m 5"},
		{"-ti -e A=1 --env B=2 --env=C=3 -eD img", sample{in: true, tty: true, env: []string{"A=1", "B=2", "C=3", "D"}}, "img"},
		{"-ite X img", sample{in: true, tty: true, env: []string{"X"}}, "img"},
		{"-e=X img", sample{env: []string{"X"}}, "img"},
		{"--name web -m64m img", sample{name: "web", memory: 64 << 20}, "img"},
		{"--tty=false -i=true --interactive img", sample{in: true}, "img"},
		{"--name= img", sample{}, "img"},
		{"--name -x img", sample{name: "-x"}, "img"},
		{"-i -- -t", sample{in: true}, "-t"},
		{"-", sample{}, "-"},
		{"", sample{}, ""},
	} {
		var s sample
		rest, err := s.flags().parse(strings.Fields(tt.args), true)
		if err != nil {
			t.Errorf("%s: %v", tt.args, err)
			continue
		}
		if got := strings.Join(rest, " "); got != tt.rest {
			t.Errorf("%s: rest %q, want %q", tt.args, got, tt.rest)
		}
		if s.in != tt.want.in || s.tty != tt.want.tty || s.name != tt.want.name || s.memory != tt.want.memory || !slices.Equal(s.env, tt.want.env) {
			t.Errorf("%s: %+v, want %+v", tt.args, s, tt.want)
		}
	}
}

func TestFlagsBetweenArguments(t *testing.T) {
	var s sample
	rest, err := s.flags().parse([]string{"a", "-i", "b", "--name", "n", "--", "-t"}, false)
	if err != nil || strings.Join(rest, " ") != "a b -t" || !s.in || s.name != "n" || s.tty {
		t.Errorf("%q, %v: %+v", rest, err, s)
	}
}

func TestFlagErrors(t *testing.T) {
	for args, want := range map[string]string{
		"--nope":        "unknown flag: --nope",
		"--nope=1":      "unknown flag: --nope",
		"-x":            "unknown shorthand flag: -x",
		"-ix":           "unknown shorthand flag: -x",
		"--name":        "flag needs an argument: --name",
		"-ie":           "flag needs an argument: -e",
		"--tty=perhaps": `invalid argument "perhaps" for --tty: want true or false`,
		"-m lots":       `invalid argument "lots" for -m: want a number of bytes`,
	} {
		var s sample
		_, err := s.flags().parse(strings.Fields(args), true)
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %q", args, err, want)
		}
	}
}

// TestRunFlags checks what some of run's flags make of a Spec.
func TestRunFlags(t *testing.T) {
	t.Setenv("FROM_HERE", "1")
	s, err := parseSpec("-h", "box", "-e", "FROM_HERE", "-e", "GONE_HERE", "--ulimit", "nofile=10:20", "--restart", "on-failure:3", "--stop-timeout", "0",
		"--security-opt", "no-new-privileges", "--security-opt", "seccomp:unconfined", "--log-opt", "max-size=1k", "--add-host", "db=::1",
		"--network", "container:x", "-v", "./here:/there:ro", "--device", "/dev/null:r", "--entrypoint", "", "--sysctl", "a=b=c", "alpine", "ls", "-l")
	if err != nil {
		t.Fatal(err)
	}
	if s.Image != "alpine" || !slices.Equal(s.Command, []string{"ls", "-l"}) || s.Hostname != "box" || !slices.Equal(s.Entrypoint, []string{""}) {
		t.Errorf("command: %+v", s.Spec)
	}
	if !slices.Equal(s.Env, []string{"FROM_HERE=1", "GONE_HERE"}) || s.ExtraHosts[0] != "db:::1" || s.Networks[0].Network != "container:x" {
		t.Errorf("environment and network: %+v", s.Spec)
	}
	if s.Resources.Ulimits[0] != (container.Ulimit{Name: "nofile", Soft: 10, Hard: 20}) || s.Resources.Sysctls["a"] != "b=c" ||
		s.Resources.Devices[0] != (container.Device{Path: "/dev/null", Permissions: "r"}) {
		t.Errorf("resources: %+v", s.Resources)
	}
	if s.Restart != (container.Restart{Policy: "on-failure", MaxRetries: 3}) || s.Stop.Timeout != time.Nanosecond || s.Log.MaxSize != 1024 {
		t.Errorf("life: %+v %+v %+v", s.Restart, s.Stop, s.Log)
	}
	if !s.Security.NoNewPrivileges || s.Security.Seccomp != container.Unconfined {
		t.Errorf("security: %+v", s.Security)
	}
	if m := s.Mounts[0]; !strings.HasPrefix(m.Source, "/") || !strings.HasSuffix(m.Source, "/here") || m.Target != "/there" || !m.ReadOnly {
		t.Errorf("mount: %+v", m)
	}
	for _, bad := range [][]string{{}, {"--ulimit", "nofile", "a"}, {"--security-opt", "label=x", "a"}, {"--sysctl", "x", "a"}, {"--env-file", "/nowhere", "a"},
		{"-v", "rel:ative", "a"}, {"--log-opt", "x=1", "a"}, {"-l", "=x", "a"}, {"--pids-limit", "3x", "a"}, {"--cpu-shares", "-3", "a"}} {
		if _, err := parseSpec(bad...); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}
