// Command network shows networks without any container: it makes one, attaches
// two bare network namespaces, has them talk to each other and to this program,
// and takes everything away again. It needs Linux and root.
//
//	go run ./examples/network
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/network"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "serve" { // this process is a namespace's: see namespace.go
		serve(os.Args[2])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\nnetwork:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "amphora-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	// Networks live in a Root. With nil options it is the one that containers
	// have by default, and namespaces share networks with them.
	eng, err := amphora.Open(ctx, &amphora.Options{Root: dir + "/root", State: dir + "/state"})
	if err != nil {
		return err
	}
	d := &demo{eng: eng}
	defer func() { err = errors.Join(err, d.leave(context.WithoutCancel(ctx))) }()

	// Free subnets are chosen, and a bridge is made on this host.
	colours, err := eng.Networks().Create(ctx, &network.Spec{Name: "colours", IPv6: true})
	if err != nil {
		return err
	}
	info, err := colours.Inspect(ctx)
	if err != nil {
		return err
	}
	d.bridge = info.Interface
	v4, v6 := info.Subnets[0], info.Subnets[1]
	say("network", "%s, bridge %s, %s and %s", info.Name, info.Interface, v4.Prefix, v6.Prefix)

	// Any namespace can be attached, by its path. These are processes that run
	// a web server and see no interface but what Attach gives them.
	addresses := map[string][]string{}
	for _, name := range []string{"blue", "green"} {
		ns, err := newNamespace(ctx, name)
		if err != nil {
			return err
		}
		d.spaces = append(d.spaces, ns)
		attached, err := eng.Networks().Attach(ctx, name, ns.path(), network.Endpoint{Network: "colours"})
		if err != nil {
			return err
		}
		a := attached[0]
		for _, p := range a.Addresses {
			addresses[name] = append(addresses[name], p.Addr().String())
		}
		say("namespace", "%s, process %d, %s is %s and %s", name, ns.pid(), a.Interface, a.Addresses[0], a.Addresses[1])
	}

	// This program reaches both by name: Dial knows who is on the network.
	client := &http.Client{Transport: &http.Transport{DialContext: colours.Dial, DisableKeepAlives: true}}
	if err := get(ctx, client, "program to blue", "http://blue/"); err != nil {
		return err
	}
	// They reach each other by address. (In containers a resolver knows names.)
	for _, addr := range addresses["green"] {
		if err := get(ctx, client, "blue to green", "http://blue/?ask="+web(addr, 80)); err != nil {
			return err
		}
	}

	// And the program serves them, on the bridge and nowhere else. Containers
	// on the network could ask for http://api:8080.
	l, err := colours.Listen(ctx, "tcp", "api:8080")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: greeter("the program")}
	defer server.Close()
	go server.Serve(l)
	return get(ctx, client, "green to program", "http://green/?ask="+web(v4.Gateway.String(), 8080))
}

// demo is what there is to take away.
type demo struct {
	eng    *amphora.Engine
	bridge string
	spaces []*namespace
}

// leave takes everything away and looks whether anything is left.
func (d *demo) leave(ctx context.Context) (err error) {
	networks := d.eng.Networks()
	for _, ns := range d.spaces {
		err = errors.Join(err, networks.Detach(ctx, ns.name), ns.end())
	}
	removed, perr := networks.Prune(ctx, nil)
	if err = errors.Join(err, perr, d.eng.Close()); err != nil || len(removed) == 0 {
		return err
	}
	_, gone := net.InterfaceByName(d.bridge)
	say("removed", "%v; processes left: %d; %s: %v", removed, alive(d.spaces), d.bridge, gone)
	return nil
}
