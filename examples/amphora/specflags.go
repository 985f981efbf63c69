package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/network"
	"github.com/amphora-go/amphora/volume"
)

// specFlags are the flags of run and create that describe the container. Most
// write straight into the Spec.
type specFlags struct {
	container.Spec
	labels, labelFiles, envFiles []string
	entrypoint                   string
	noHealth                     *bool
	first                        network.Endpoint // what is said of the first network by flags of its own
	f                            *flags
}

func (s *specFlags) define(f *flags) {
	s.f = f
	f.bool(&s.Stdin, "i,interactive", "Keep STDIN open even if not attached")
	f.bool(&s.TTY, "t,tty", "Allocate a pseudo-TTY")
	f.bool(&s.AutoRemove, "rm", "Automatically remove the container when it exits")
	f.text(&s.Name, "name", "Assign a name to the container")
	f.list(&s.Env, "e,env", "Set environment variables (`KEY[=value]`); KEY alone takes its value from here")
	f.list(&s.envFiles, "env-file", "Read in a `file` of environment variables")
	f.text(&s.Dir, "w,workdir", "Working directory inside the container")
	f.text(&s.User, "u,user", "User name or UID (`name[:group]`)")
	f.list(&s.Groups, "group-add", "Add additional groups to join")
	f.text(&s.entrypoint, "entrypoint", "Overwrite the default ENTRYPOINT of the image")
	f.text(&s.Hostname, "h,hostname", "Container host name")
	f.text(&s.Domainname, "domainname", "Container NIS domain name")
	f.list(&s.labels, "l,label", "Set meta data on the container (`key=value`)")
	f.list(&s.labelFiles, "label-file", "Read in a `file` of labels")
	f.text(&s.Rootfs, "rootfs", "Use a `directory` of the host instead of an image")
	s.defineNetwork(f)
	s.defineMounts(f)
	s.defineResources(f)
	s.defineSecurity(f)
	f.bool(&s.Init, "init", "Run an init inside the container that forwards signals and reaps processes")
	f.text(&s.Stop.Signal, "stop-signal", "Stop the container with this `signal`")
	value(f, &s.Stop.Timeout, "stop-timeout", "Timeout (in `seconds`) to stop the container", parseGrace)
	value(f, &s.Restart, "restart", "Restart `policy`: no, on-failure[:max-retries], always, unless-stopped", parseRestart)
	s.defineHealth(f)
	f.text(&s.Log.Driver, "log-driver", "Log `driver`: json-file (default) or none")
	each(f, "log-opt", "Log `option`: max-size=BYTES or max-file=NUMBER", s.logOption)
}

func (s *specFlags) defineMounts(f *flags) {
	mount := func(parse func(string) (volume.Mount, error)) func(string) error {
		return func(arg string) error {
			m, err := parse(arg)
			if err != nil {
				return err
			}
			if m.Type == volume.Bind {
				if m.Source, err = filepath.Abs(m.Source); err != nil {
					return err
				}
			}
			s.Mounts = append(s.Mounts, m)
			return m.Validate()
		}
	}
	each(f, "v,volume", "Bind mount a directory or a volume (`[source:]target[:options]`)", mount(volume.ParseVolume))
	each(f, "mount", "Attach a filesystem `mount` to the container", mount(volume.ParseMount))
	each(f, "tmpfs", "Mount a tmpfs `directory`", mount(volume.ParseTmpfs))
}

// complete adds what the arguments say, and the files that flags name.
func (s *specFlags) complete(args []string) error {
	if s.Rootfs == "" {
		if len(args) == 0 {
			return errors.New("an image is required; or give --rootfs DIRECTORY")
		}
		s.Image, args = args[0], args[1:]
	} else {
		dir, err := filepath.Abs(s.Rootfs)
		if err != nil {
			return err
		}
		s.Rootfs = dir
	}
	if *s.noHealth {
		s.Health = &container.Health{None: true}
	}
	s.Command = args
	if s.f.given("entrypoint") {
		s.Entrypoint = []string{s.entrypoint}
	}
	var err error
	if s.Env, err = environment(s.envFiles, s.Env); err != nil {
		return err
	}
	if s.Labels, err = labels(s.labelFiles, s.labels); err != nil {
		return err
	}
	return s.connectFirst()
}

func parseRestart(s string) (r container.Restart, err error) {
	policy, retries, ok := strings.Cut(s, ":")
	r.Policy = policy
	if ok {
		if r.MaxRetries, err = strconv.Atoi(retries); err != nil {
			return r, fmt.Errorf("the maximum of retries %q is no number", retries)
		}
	}
	return r, nil
}

func (s *specFlags) logOption(o string) (err error) {
	switch key, v, _ := strings.Cut(o, "="); key {
	case "max-size":
		s.Log.MaxSize, err = parseBytes(v)
	case "max-file":
		s.Log.MaxFile, err = strconv.Atoi(v)
	default:
		err = errors.New("want max-size or max-file")
	}
	return err
}
