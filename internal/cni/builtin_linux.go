package cni

func supported() error { return nil }

func isBuiltin(typ string) bool { return builtin(typ) != nil }

// builtin is the plugin of a type, nil if there is none here.
func builtin(typ string) plugin {
	switch typ {
	case "bridge":
		return bridgePlugin{}
	case "host-local":
		return hostLocalPlugin{}
	case "portmap":
		return portmapPlugin{}
	case "firewall":
		return firewallPlugin{}
	case "loopback":
		return loopbackPlugin{}
	case "bandwidth":
		return bandwidthPlugin{}
	case "macvlan":
		return macvlanPlugin{}
	}
	return nil
}
