package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// dockerClient speaks Docker's API, as an ordinary client would: by HTTP over
// the daemon's socket, with connections kept.
type dockerClient struct {
	http *http.Client
}

func newDockerClient(socket string) *dockerClient {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &dockerClient{http: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 64}}}
}

// call sends in as JSON, if it is not nil, and reads out, if that is not nil.
func (c *dockerClient) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("docker: %s %s: %s: %s", method, path, resp.Status, tail(data))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

type object map[string]any

// create makes a container without network.
func (c *dockerClient) create(ctx context.Context, name, image string, command ...string) (id string, err error) {
	return c.createOn(ctx, name, object{"NetworkMode": "none"}, image, command...)
}

// createOn makes a container with a HostConfig.
func (c *dockerClient) createOn(ctx context.Context, name string, host object, image string, command ...string) (id string, err error) {
	var made struct{ Id string }
	path := "/containers/create"
	if name != "" {
		path += "?name=" + url.QueryEscape(name)
	}
	err = c.call(ctx, http.MethodPost, path, object{"Image": image, "Cmd": command, "HostConfig": host}, &made)
	return made.Id, err
}

func (c *dockerClient) start(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/containers/"+id+"/start", nil, nil)
}

func (c *dockerClient) wait(ctx context.Context, id string) error {
	var ended struct{ StatusCode int }
	if err := c.call(ctx, http.MethodPost, "/containers/"+id+"/wait", nil, &ended); err != nil {
		return err
	}
	if ended.StatusCode != 0 {
		return fmt.Errorf("docker: the container ended with %d", ended.StatusCode)
	}
	return nil
}

func (c *dockerClient) remove(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/containers/"+id+"?force=1", nil, nil)
}

// run does what docker run --rm does, without network.
func (c *dockerClient) run(ctx context.Context, image string, command ...string) error {
	return c.runOn(ctx, object{"NetworkMode": "none"}, image, command...)
}

func (c *dockerClient) runOn(ctx context.Context, host object, image string, command ...string) error {
	id, err := c.createOn(ctx, "", host, image, command...)
	if err != nil {
		return err
	}
	if err := c.start(ctx, id); err != nil {
		return errors.Join(err, c.remove(ctx, id))
	}
	if err := c.wait(ctx, id); err != nil {
		return errors.Join(err, c.remove(ctx, id))
	}
	return c.remove(ctx, id)
}

// pull reads the progress to its end; an error would be in it.
func (c *dockerClient) pull(ctx context.Context, name, tag string) error {
	path := "/images/create?fromImage=" + url.QueryEscape(name) + "&tag=" + url.QueryEscape(tag)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker"+path, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("docker: POST %s: %s: %s", path, resp.Status, tail(text))
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var progress struct{ Error string }
		if err := lines.Decode(&progress); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if progress.Error != "" {
			return fmt.Errorf("docker pull: %s", progress.Error)
		}
	}
}

// exec runs a command in a container. The answer to an exec's start that is
// not detached ends when the process does.
func (c *dockerClient) exec(ctx context.Context, id string, command ...string) error {
	var made struct{ Id string }
	err := c.call(ctx, http.MethodPost, "/containers/"+id+"/exec", object{"Cmd": command, "AttachStdout": true, "AttachStderr": true}, &made)
	if err != nil {
		return err
	}
	if err := c.call(ctx, http.MethodPost, "/exec/"+made.Id+"/start", object{"Detach": false}, nil); err != nil {
		return err
	}
	var state struct {
		Running  bool
		ExitCode int
	}
	if err := c.call(ctx, http.MethodGet, "/exec/"+made.Id+"/json", nil, &state); err != nil {
		return err
	}
	if state.Running || state.ExitCode != 0 {
		return fmt.Errorf("docker exec: running %v, exit code %d", state.Running, state.ExitCode)
	}
	return nil
}
