package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// registry is Debian's docker-registry on 127.0.0.1. A second one, on the same
// storage and the same port, runs in the network namespace of the Docker
// daemon.
type registry struct {
	host string // with the port
}

const registryConfig = `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %s}, %s}
http: {addr: "%s"}
`

func (b *bench) startRegistry(ctx context.Context) (*registry, error) {
	return b.startRegistryIn(ctx, "registry", true)
}

// startRegistryIn starts one on a directory of the site. Without a cache it
// knows no more than lies there.
func (b *bench) startRegistryIn(ctx context.Context, dir string, cache bool) (*registry, error) {
	if _, err := exec.LookPath("docker-registry"); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &registry{host: l.Addr().String()}
	l.Close()
	config, caching := b.site.path(dir+".yml"), "delete: {enabled: true}"
	if cache {
		caching = "cache: {blobdescriptor: inmemory}"
	}
	if err := os.WriteFile(config, fmt.Appendf(nil, registryConfig, b.site.path(dir), caching, r.host), 0o644); err != nil {
		return nil, err
	}
	if err := b.serve("docker-registry", "serve", config); err != nil {
		return nil, err
	}
	if b.docker != nil {
		pid := strconv.Itoa(b.docker.daemon.Process.Pid)
		if err := b.serve("nsenter", "-t", pid, "-n", "docker-registry", "serve", config); err != nil {
			return nil, err
		}
	}
	return r, r.ready(ctx)
}

// serve starts a program that ends with us.
func (b *bench) serve(argv ...string) error {
	log, err := os.CreateTemp(b.site.dir, "log-")
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		return err
	}
	b.known[cmd.Process.Pid] = true
	b.site.later(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
	})
	return nil
}

func (r *registry) ready(ctx context.Context) error {
	for range 100 {
		resp, err := http.Get("http://" + r.host + "/v2/")
		if err == nil {
			resp.Body.Close()
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("docker-registry does not answer at %s", r.host)
}

// push uploads an image: its layers, a configuration, a manifest.
func (r *registry) push(ctx context.Context, repository, tag string, layers []*layer) error {
	config, err := json.Marshal(imageConfig(layers))
	if err != nil {
		return err
	}
	manifest := object{"schemaVersion": 2, "mediaType": manifestType}
	if manifest["config"], err = r.upload(ctx, repository, configType, bytes.NewReader(config), digestOf(config), int64(len(config))); err != nil {
		return err
	}
	var descriptors []any
	for _, l := range layers {
		f, err := os.Open(l.path)
		if err != nil {
			return err
		}
		d, err := r.upload(ctx, repository, layerType, f, l.digest, l.packed)
		f.Close()
		if err != nil {
			return err
		}
		descriptors = append(descriptors, d)
	}
	manifest["layers"] = descriptors
	data, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	_, err = r.send(ctx, http.MethodPut, "http://"+r.host+"/v2/"+repository+"/manifests/"+tag, manifestType, bytes.NewReader(data), int64(len(data)))
	return err
}

// upload stores one blob and returns its descriptor.
func (r *registry) upload(ctx context.Context, repository, mediaType string, blob io.Reader, digest string, size int64) (object, error) {
	place, err := r.send(ctx, http.MethodPost, "http://"+r.host+"/v2/"+repository+"/blobs/uploads/", "", nil, 0)
	if err != nil {
		return nil, err
	}
	query := place.Query()
	query.Set("digest", digest)
	place.RawQuery = query.Encode()
	_, err = r.send(ctx, http.MethodPut, place.String(), "application/octet-stream", blob, size)
	return object{"mediaType": mediaType, "size": size, "digest": digest}, err
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

// send returns where the registry wants what comes next.
func (r *registry) send(ctx context.Context, method, to, contentType string, body io.Reader, size int64) (*url.URL, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("registry: %s %s: %s: %s", method, to, resp.Status, tail(text))
	}
	place, err := resp.Location()
	if err == http.ErrNoLocation {
		return nil, nil
	}
	return place, err
}
