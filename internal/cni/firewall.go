package cni

import (
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/amphora-go/amphora/internal/fault"
)

// firewallPlugin has nothing to do for an attachment: what it says of the
// network is part of the bridge's entry in the filter (see networkOf).
type firewallPlugin struct{}

func (firewallPlugin) validate(conf []byte) error { return unmarshal(conf, new(firewallConf)) }

func (firewallPlugin) add(x *call) (*types100.Result, error) {
	if x.prev == nil {
		return nil, fault.Invalid("firewall must come after a plugin that makes an interface")
	}
	return x.prev, nil
}

func (firewallPlugin) check(*call) error     { return nil }
func (firewallPlugin) del(*call) error       { return nil }
func (firewallPlugin) gc(*call, []Key) error { return nil }
func (firewallPlugin) status(*call) error    { return nil }
