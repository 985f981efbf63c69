package main

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/image/build"
)

// fields reads "key=value,key=value" with CSV's quotes; a field without "=" is
// a key alone.
func fields(s string) (map[string]string, error) {
	parts, err := csv.NewReader(strings.NewReader(s)).Read()
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, p := range parts {
		key, v, _ := strings.Cut(strings.TrimSpace(p), "=")
		all[strings.ToLower(key)] = v
	}
	return all, nil
}

// take returns a field by the first of its names and removes it.
func take(all map[string]string, names ...string) (v string) {
	for _, n := range names {
		if have, ok := all[n]; ok {
			v = have
			delete(all, n)
		}
	}
	return v
}

// nothingElse is an error about fields that nobody took.
func nothingElse(all map[string]string) error {
	for key := range all {
		return fmt.Errorf("%q is not known here", key)
	}
	return nil
}

func (b *buildFlags) secret(s string) error {
	all, err := fields(s)
	if err != nil {
		return err
	}
	id, kind := take(all, "id"), take(all, "type")
	secret := build.Secret{File: take(all, "source", "src"), Env: take(all, "env")}
	if kind == "env" && secret.Env == "" {
		secret.File, secret.Env = "", secret.File
	}
	if secret.File == "" && secret.Env == "" {
		if _, ok := os.LookupEnv(id); ok && kind != "file" {
			secret.Env = id
		} else {
			secret.File = id
		}
	}
	if id == "" {
		return errors.New("want id=ID[,src=FILE|,env=VARIABLE]")
	}
	if b.Secrets == nil {
		b.Secrets = map[string]build.Secret{}
	}
	b.Secrets[id] = secret
	return nothingElse(all)
}

func (b *buildFlags) agent(s string) error {
	id, paths, _ := strings.Cut(s, "=")
	if id == "" {
		return errors.New("want default, or ID=SOCKET or ID=KEY[,KEY]")
	}
	var agent build.SSH
	if paths != "" {
		agent.Keys = strings.Split(paths, ",")
		if st, err := os.Stat(agent.Keys[0]); err == nil && st.Mode().Type() == os.ModeSocket {
			agent = build.SSH{Socket: paths}
		}
	}
	if b.SSH == nil {
		b.SSH = map[string]build.SSH{}
	}
	b.SSH[id] = agent
	return nil
}

func (b *buildFlags) context(s string) error {
	name, where, ok := strings.Cut(s, "=")
	if !ok || name == "" || where == "" {
		return errors.New("want NAME=PATH, NAME=URL, NAME=docker-image://REF or NAME=oci-layout://PATH")
	}
	var c build.Context
	if ref, ok := strings.CutPrefix(where, "docker-image://"); ok {
		c.Image = ref
	} else if layout, ok := strings.CutPrefix(where, "oci-layout://"); ok {
		c.Layout, c.Ref = splitLayout(layout)
	} else if isURL(where) {
		c.URL = where
	} else {
		dir, err := filepath.Abs(where)
		if err != nil {
			return err
		}
		c.Dir = dir
	}
	if b.Contexts == nil {
		b.Contexts = map[string]build.Context{}
	}
	b.Contexts[name] = c
	return nil
}

// splitLayout reads PATH[@DIGEST] and PATH[:TAG].
func splitLayout(s string) (dir, ref string) {
	if dir, ref, ok := strings.Cut(s, "@"); ok {
		return dir, ref
	}
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		return s[:i], s[i+1:]
	}
	return s, ""
}

func (b *buildFlags) output(s string) error {
	if s == "-" {
		s = "type=tar"
	} else if !strings.Contains(s, "=") {
		b.Outputs = append(b.Outputs, build.Output{Type: build.OutputDir, Path: s})
		return nil
	}
	all, err := fields(s)
	if err != nil {
		return err
	}
	o := build.Output{Type: build.OutputType(take(all, "type")), Path: take(all, "dest", "destination")}
	if o.Path == "-" {
		o.Path = ""
	}
	switch o.Type {
	case "image", "registry", "docker":
		if o.Type == "registry" || take(all, "push") == "true" {
			b.push = true
		}
		if o.Type == "docker" && strings.Contains(s, "dest") {
			break // an archive
		}
		if name := take(all, "name"); name != "" {
			b.Tags = append(b.Tags, strings.Split(name, ",")...)
		}
		o.Type = build.OutputImage
	case build.OutputDir:
		if o.Path == "" {
			return errors.New("type=local needs dest=DIRECTORY")
		}
	case build.OutputOCI, build.OutputTar:
	default:
		return fmt.Errorf("type %q is none of local, tar, oci, docker, image and registry", o.Type)
	}
	b.Outputs = append(b.Outputs, o)
	return nothingElse(all)
}

func (b *buildFlags) cacheFrom(s string) error {
	c, err := parseCache(s, "src")
	if err == nil && c.Inline {
		err = errors.New("an inline cache is in an image: give its name")
	}
	b.CacheFrom = append(b.CacheFrom, c)
	return err
}

func (b *buildFlags) cacheTo(s string) error {
	c, err := parseCache(s, "dest")
	b.CacheTo = append(b.CacheTo, c)
	return err
}

// parseCache reads a place for caches; path names the field of directories.
func parseCache(s, path string) (c build.Cache, err error) {
	if !strings.Contains(s, "=") {
		return build.Cache{Ref: s}, nil
	}
	all, err := fields(s)
	if err != nil {
		return c, err
	}
	switch kind := take(all, "type"); kind {
	case "registry":
		c.Ref = take(all, "ref")
	case "local":
		c.Dir = take(all, path)
	case "inline":
		c.Inline = true
	default:
		return c, fmt.Errorf("type %q is none of registry, local and inline", kind)
	}
	if c.Ref == "" && c.Dir == "" && !c.Inline {
		return c, fmt.Errorf("want type=registry,ref=REF or type=local,%s=DIRECTORY", path)
	}
	switch mode := take(all, "mode"); mode {
	case "", "min":
	case "max":
		c.Max = true
	default:
		return c, fmt.Errorf("mode %q is neither min nor max", mode)
	}
	return c, nothingElse(all)
}

// stdinContext reads an archive, or the Dockerfile alone, from standard input.
func (b *buildFlags) stdinContext(a *app) error {
	in := bufio.NewReaderSize(a.stdin, 1024)
	head, err := in.Peek(512)
	if err != nil && err != io.EOF {
		return err
	}
	if isArchive(head) {
		b.Context.Tar = in
		return nil
	}
	b.Inline, err = readAll(in)
	return err
}

// isArchive knows tars, and what they are compressed with.
func isArchive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b\x08", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return len(head) >= 262 && string(head[257:262]) == "ustar"
}

// readAll reads a Dockerfile.
func readAll(r io.Reader) ([]byte, error) {
	const limit = 16 << 20
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && len(data) > limit {
		err = errors.New("the Dockerfile is too large; is it one?")
	}
	if err == nil && len(bytes.TrimSpace(data)) == 0 {
		err = errors.New("the Dockerfile is empty")
	}
	return data, err
}
