package cni

import (
	"slices"

	"github.com/containernetworking/cni/libcni"
)

// chain is the list without the built-in plugins that have nothing to do for
// this command: each link of a chain costs libcni a tenth of an attachment in
// JSON. The cache still gets the whole list.
func (r *run) chain(command string, rt *libcni.RuntimeConf) *libcni.NetworkConfigList {
	short := *r.list
	short.Plugins = slices.Clone(r.list.Plugins)
	first := true
	short.Plugins = slices.DeleteFunc(short.Plugins, func(p *libcni.PluginConfig) bool {
		main := first
		first = false
		return !main && r.plan[p.Network.Type] == Builtin && r.idle(command, p, rt)
	})
	return &short
}

func (r *run) idle(command string, p *libcni.PluginConfig, rt *libcni.RuntimeConf) bool {
	asked := func(capability string) bool {
		return p.Network.Capabilities[capability] && rt.CapabilityArgs[capability] != nil
	}
	switch p.Network.Type {
	case "firewall":
		return true
	case "portmap":
		return !asked("portMappings") && !(command == "DEL" && r.lost)
	case "bandwidth":
		b, err := parseBandwidth(p.Bytes)
		return command == "DEL" || err == nil && *b == bandwidthConf{} && !asked("bandwidth")
	}
	return false
}
