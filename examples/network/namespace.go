package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// namespace is this program once more, in a network namespace of its own,
// which lives as long as the process.
type namespace struct {
	name  string
	cmd   *exec.Cmd
	stdin io.Closer
}

// newNamespace starts one and waits until its web server listens.
func newNamespace(ctx context.Context, name string) (*namespace, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ns := &namespace{name: name, cmd: exec.CommandContext(ctx, exe, "serve", name)}
	if err := unshare(ns.cmd); err != nil {
		return nil, err
	}
	if ns.stdin, err = ns.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := ns.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	ns.cmd.Stderr = os.Stderr
	if err := ns.cmd.Start(); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		ns.end()
		return nil, fmt.Errorf("the namespace %s ended at once: %w", name, err)
	}
	return ns, nil
}

func (ns *namespace) pid() int     { return ns.cmd.Process.Pid }
func (ns *namespace) path() string { return fmt.Sprintf("/proc/%d/ns/net", ns.pid()) }

// end closes what the process reads from, which ends it.
func (ns *namespace) end() error {
	ns.stdin.Close()
	return ns.cmd.Wait()
}

// serve is what runs inside. It goes with the program, by whatever cause.
func serve(name string) {
	l, err := net.Listen("tcp", ":80")
	if err != nil {
		fmt.Fprintln(os.Stderr, "network:", err)
		os.Exit(1)
	}
	fmt.Println("ready")
	go http.Serve(l, greeter(name))
	io.Copy(io.Discard, os.Stdin)
}

// greeter answers with its name, or has another one answered: /?ask=URL.
func greeter(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		url := r.FormValue("ask")
		if url == "" {
			fmt.Fprintf(w, "hello %s, this is %s", host, name)
			return
		}
		answer, err := fetch(r.Context(), http.DefaultClient, url)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, answer)
	})
}

func fetch(ctx context.Context, c *http.Client, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return "", err
	}
	resp, err := c.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return string(body), err
}

// get prints the answer, and how long it took.
func get(ctx context.Context, c *http.Client, what, url string) error {
	begin := time.Now()
	answer, err := fetch(ctx, c, url)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	say(what, "%-60s %.1f ms", answer, time.Since(begin).Seconds()*1e3)
	return nil
}

func web(addr string, port int) string {
	return "http://" + net.JoinHostPort(addr, strconv.Itoa(port)) + "/"
}

func say(what, format string, args ...any) {
	fmt.Printf("%-18s"+format+"\n", append([]any{what}, args...)...)
}

// alive counts the namespaces whose process is there.
func alive(spaces []*namespace) (n int) {
	for _, ns := range spaces {
		if _, err := os.Stat(ns.path()); err == nil {
			n++
		}
	}
	return n
}
