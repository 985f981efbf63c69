package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/network"
)

// parseSpec has run's flags read.
func parseSpec(args ...string) (*specFlags, error) {
	var s specFlags
	f := newFlags()
	s.define(f)
	rest, err := f.parse(args, true)
	if err != nil {
		return nil, err
	}
	return &s, s.complete(rest)
}

// TestNetworkFlags: flags for the first network and the long form of --network
// say the same.
func TestNetworkFlags(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "[]"},
		{"--network app", "[{app [] [] 0 {0 0 0 0}}]"},
		{"--ip 10.1.2.3", "[{bridge [10.1.2.3] [] 0 {0 0 0 0}}]"},
		{"--network app --network two --network-alias a --network-alias b --ip 10.1.2.3 --ip6 fd00::3 --mac-address 02:00:00:00:00:01 --bandwidth-in 1m --bandwidth-out 2k",
			"[{app [10.1.2.3 fd00::3] 02:00:00:00:00:01 [a b] 0 {1048576 0 2048 0}} {two [] [] 0 {0 0 0 0}}]"},
		{"--network name=app,alias=a,alias=b,ip=10.1.2.3,ip6=fd00::3,mac-address=02:00:00:00:00:01,bandwidth-in=1m,bandwidth-out=2k,gw-priority=-3",
			"[{app [10.1.2.3 fd00::3] 02:00:00:00:00:01 [a b] -3 {1048576 0 2048 0}}]"},
		{"--network name=app,ip=10.1.2.3 --ip6 fd00::3 x", "conflicting options: --ip"},
		{"--network name=app,ip=10.1.2.3 --network-alias a", "[{app [10.1.2.3] [a] 0 {0 0 0 0}}]"},
		{"--network alias=a", "name=NAME"},
		{"--network name=a,b", "want key=value"},
		{"--network name=a,colour=b", `unknown key "colour"`},
		{"--ip fd00::3", "no IPv4 address"},
		{"--ip6 10.1.2.3", "no IPv6 address"},
		{"--network none --ip 10.1.2.3", "network none"},
		{"--mac-address 01:00:00:00:00:01", "for groups"},
		{"--bandwidth-in fast", "bytes"},
	} {
		var got string
		s, err := parseSpec(append(strings.Fields(tt.args), "image")...)
		if err != nil {
			got = err.Error()
		} else {
			got = strings.ReplaceAll(fmt.Sprint(s.Networks), "  ", " ")
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestPublishFlags(t *testing.T) {
	for long, short := range map[string]string{
		"target=80":                                     "80",
		"published=8080,target=80":                      "8080:80",
		"published=8080,target=80,protocol=udp":         "8080:80/udp",
		"published=8080-8090,target=80,mode=ingress":    "8080-8090:80",
		"published=8080,target=80,host_ip=127.0.0.1":    "127.0.0.1:8080:80",
		"target=80,host_ip=::1":                         "[::1]::80",
		"host_ip=10.0.0.1,protocol=sctp,target=80":      "10.0.0.1::80/sctp",
		"target=80,published=8080,app_protocol=http":    "8080:80",
		"target=80,published=8080,host_ip=[::1]":        "[::1]:8080:80",
		"published=80,target=80,protocol=tcp,mode=host": "80:80/tcp",
	} {
		got, err := parsePublish(long)
		want, werr := network.ParsePort(short)
		if err != nil || werr != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v; want %v, %v", long, got, err, want, werr)
		}
	}
	for _, bad := range []string{"published=80", "target=x", "target=80,port=8", "target=80,protocol=icmp", "target=80,host_ip=here", "target=0"} {
		if got, err := parsePublish(bad); err == nil {
			t.Errorf("%s: %v", bad, got)
		}
	}
}

func TestPortsInTheHostsNetwork(t *testing.T) {
	for args, warns := range map[string]bool{"--network host -p 80:80": true, "--network host -P": false, "--network app -p 80:80": false, "--network host": false, "-p 80:80": false} {
		s, err := parseSpec(append(strings.Fields(args), "image")...)
		if err != nil {
			t.Fatal(err)
		}
		w := s.dropPorts()
		if left := len(s.Ports) > 0 || s.PublishAll; (w != "") != warns || left != (!strings.Contains(args, "host") && strings.Contains(args, "-p")) {
			t.Errorf("%s: warning %q, ports left: %t", args, w, left)
		}
	}
}

// TestNetworkCreateFlags: gateways and the like find their subnets.
func TestNetworkCreateFlags(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "[]"},
		{"--subnet 10.1.0.0/16,fd00::/64 --gateway fd00::f --gateway 10.1.0.9 --ip-range 10.1.2.0/24 --aux-address a=10.1.0.7,b=10.1.0.8",
			"[{10.1.0.0/16 10.1.0.9 10.1.2.0/24 [10.1.0.7 10.1.0.8]} {fd00::/64 fd00::f invalid Prefix []}]"},
		{"--subnet 10.1.0.0", "CIDR"},
		{"--ip-range 10.1.2.0/24", "no matching subnet"},
		{"--subnet 10.1.0.0/16 --aux-address 10.1.0.7", "no IP address"},
		{"--subnet 10.1.0.0/16 --gateway 10.2.0.1", "no matching subnet"},
		{"-o =x", "KEY=VALUE"},
		{"--conflist /nowhere", "nowhere"},
	} {
		var o networkOptions
		f := newFlags()
		o.define(f)
		_, err := f.parse(strings.Fields(tt.args), false)
		if err == nil {
			err = o.complete(strings.NewReader(""))
		}
		got := fmt.Sprint(o.spec.Subnets)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
			t.Errorf("%s: %s, want %s", tt.args, got, tt.want)
		}
	}
	var o networkOptions
	f := newFlags()
	o.define(f)
	if _, err := f.parse(strings.Fields("--conflist - --label a=b --opt x=y=z --attachable"), false); err != nil {
		t.Fatal(err)
	}
	if err := o.complete(strings.NewReader("{}")); err != nil || string(o.spec.Conflist) != "{}" || o.spec.Labels["a"] != "b" || o.spec.Options["x"] != "y=z" {
		t.Errorf("%+v, %v", o.spec, err)
	}
}

func TestPortColumn(t *testing.T) {
	info := &container.Info{Networks: []network.Attachment{{}, {Ports: []network.Binding{
		{Container: 443, Protocol: "tcp", Host: "127.0.0.1", HostPort: 8443},
		{Container: 81, Protocol: "tcp", Host: network.AllHosts, HostPort: 81},
		{Container: 80, Protocol: "tcp", Host: network.AllHosts, HostPort: 80},
		{Container: 80, Protocol: "udp", Host: "::1", HostPort: 80},
		{Container: 83, Protocol: "tcp", Host: "0.0.0.0", HostPort: 83},
		{Container: 80, Protocol: "tcp", Host: "10.0.0.1", HostPort: 9000},
	}}}}
	const want = "0.0.0.0:80-81->80-81/tcp, [::]:80-81->80-81/tcp, [::1]:80->80/udp, 0.0.0.0:83->83/tcp, 10.0.0.1:9000->80/tcp, 127.0.0.1:8443->443/tcp"
	if got := portColumn(info); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got := portColumn(&container.Info{}); got != "" {
		t.Errorf("no ports: %q", got)
	}
}
