package cni

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/containernetworking/cni/pkg/version"

	"github.com/amphora-go/amphora/internal/nft"
)

// installPlugin puts a binary of that name into the lab's CNI path: this test
// binary, by a script.
func (l *lab) installPlugin(name string) {
	l.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	dir := filepath.Join(l.dir, "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nAMPHORA_TESTENV_CHILD=plugin exec %s testenv-child %s %s\n", exe, name, l.pluginLog())
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) pluginLog() string { return filepath.Join(l.dir, "log") }

// pluginCalls reads and empties the log of the binaries: "type COMMAND".
func (l *lab) pluginCalls() string {
	data, _ := os.ReadFile(l.pluginLog())
	os.Remove(l.pluginLog())
	return string(data)
}

// childPlugin is a plugin in a process of its own. It logs, passes on the
// result before it, fails at the command that its field "fail" names, and gives
// an address when it is called for IPAM.
func childPlugin(args []string) int {
	typ, log := args[0], args[1]
	command := os.Getenv("CNI_COMMAND")
	stdin, _ := io.ReadAll(os.Stdin)
	var conf struct {
		Type       string
		CNIVersion string
		Fail       string
		IPAM       struct{ Type, Address, Gateway string }
		PrevResult map[string]any
	}
	if err := json.Unmarshal(stdin, &conf); err != nil {
		fmt.Println(`{"code":6,"msg":"bad stdin"}`)
		return 1
	}
	if command == "VERSION" {
		version.All.Encode(os.Stdout)
		return 0
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 1
	}
	where := os.Getenv("CNI_NETNS")
	if where != "" {
		if _, err := os.Stat(where); err != nil {
			where = "unreachable"
		} else {
			where = "reachable"
		}
	}
	fmt.Fprintf(f, "%s %s %s\n", typ, command, where)
	f.Close()
	if conf.Fail == command {
		fmt.Printf(`{"code":100,"msg":"%s was told to fail"}`, typ)
		return 1
	}
	if command != "ADD" {
		return 0
	}
	result := conf.PrevResult
	switch {
	case conf.IPAM.Type == typ:
		result = map[string]any{"cniVersion": conf.CNIVersion, "ips": []any{map[string]any{"address": conf.IPAM.Address, "gateway": conf.IPAM.Gateway}},
			"routes": []any{map[string]any{"dst": "0.0.0.0/0"}}}
	case result == nil:
		result = map[string]any{"cniVersion": conf.CNIVersion,
			"interfaces": []any{map[string]any{"name": os.Getenv("CNI_IFNAME"), "mac": "02:00:00:00:00:01", "sandbox": os.Getenv("CNI_NETNS")}},
			"ips":        []any{map[string]any{"address": "10.99.0.5/24", "interface": 0}}}
	}
	json.NewEncoder(os.Stdout).Encode(result)
	return 0
}

// child is a process that works in another one's lab: dir, id, number.
func childLab(args []string) (*lab, []string) {
	n, _ := strconv.Atoi(args[2])
	l := &lab{dir: args[0], id: args[1], net: n}
	l.CNI = New(l.options(nft.New(l.id)))
	return l, args[3:]
}

func (l *lab) childArgs(more ...string) []string {
	return append([]string{l.dir, l.id, strconv.Itoa(l.net)}, more...)
}

func childAdd(args []string) int {
	l, args := childLab(args)
	_, err := l.Add(context.Background(), &Request{Conflist: l.conflist(), ID: args[0], NetNS: args[1], IfName: "eth0",
		Ports: []Port{{Protocol: "tcp", HostPort: 8080, Container: 80}}})
	return say(err)
}

func childDel(args []string) int {
	l, args := childLab(args)
	return say(l.Del(context.Background(), &Request{Conflist: l.conflist(), ID: args[0], NetNS: args[1], IfName: "eth0"}))
}

func childGC(args []string) int {
	l, _ := childLab(args)
	return say(l.GC(context.Background(), l.conflist(), nil))
}

func childUp(args []string) int {
	l, args := childLab(args)
	if len(args) > 0 && args[0] == "down" {
		return say(l.Down(context.Background(), l.conflist()))
	}
	return say(l.Up(context.Background(), l.conflist()))
}

// childCrowd attaches ten namespaces at once, prints the addresses, waits until
// its standard input ends, and detaches.
func childCrowd(args []string) int {
	l, args := childLab(args)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards failed
	var failed error
	for i := range 10 {
		wg.Go(func() {
			err := func() error {
				ns, err := makeNS()
				if err != nil {
					return err
				}
				defer ns.Close()
				id := fmt.Sprintf("c%s-%d", args[0], i)
				res, err := l.Add(context.Background(), &Request{Conflist: l.conflist(), ID: id, NetNS: fmt.Sprintf("/proc/self/fd/%d", ns.Fd()), IfName: "eth0"})
				if err != nil {
					return err
				}
				for _, a := range res.Addresses {
					fmt.Println(a)
				}
				return l.Del(context.Background(), &Request{Conflist: l.conflist(), ID: id, IfName: "eth0", Plugins: res.Plugins})
			}()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return say(failed)
}

func say(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
