package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/ipam"
)

// parseList reads a conflist. A version that libcni does not know is refused
// here, since it would look at it only after plugins have run.
func parseList(conflist []byte) (*libcni.NetworkConfigList, error) {
	list, err := libcni.NetworkConfFromBytes(conflist)
	if err != nil {
		return nil, fault.Invalid("conflist: %w", err)
	}
	if err := utils.ValidateNetworkName(list.Name); err != nil {
		return nil, fault.Invalid("conflist: %w", err)
	}
	if len(list.Plugins) == 0 {
		return nil, fault.Invalid("conflist of network %s: it lists no plugins", list.Name)
	}
	if list.CNIVersion == "" {
		list.CNIVersion = "0.1.0" // what the specification says of a missing version
	}
	if !slices.Contains(version.All.SupportedVersions(), list.CNIVersion) {
		return nil, fault.Invalid("conflist of network %s: cniVersion %q is unknown; known are %s", list.Name, list.CNIVersion,
			strings.Join(version.All.SupportedVersions(), ", "))
	}
	return list, nil
}

// Fields that every plugin may have. Some are libcni's own.
const commonFields = "cniVersion cniVersions name type capabilities runtimeConfig prevResult cni.dev/attachments cni.dev/valid-attachments dns"

// knownFields are those that the built-in of a type honours; idleFields are
// those that it may ignore while they are false, 0 or empty.
func knownFields(typ string) (known, idle string, ok bool) {
	switch typ {
	case "bridge":
		return "bridge isGateway isDefaultGateway ipMasq hairpinMode mtu ipam",
			"vlan vlanTrunk promiscMode macspoofchk enabledad portIsolation forceAddress disableContainerInterface ipMasqBackend", true
	case "host-local": // the fields of "ipam"
		return "type ranges routes dataDir subnet rangeStart rangeEnd gateway", "resolvConf", true
	case "portmap":
		return "", "backend conditionsV4 conditionsV6 markMasqBit externalSetMarkChain masqAll", true
	case "firewall":
		return "ingressPolicy internal", "backend iptablesAdminChainName firewalldZone", true
	case "loopback":
		return "", "", true
	case "bandwidth":
		return "ingressRate ingressBurst egressRate egressBurst", "latency unshapedSubnets shapedSubnets", true
	case "macvlan":
		return "master mode mtu ipam", "linkInContainer bcqueuelen", true
	}
	return "", "", false
}

// unknownField names a field that the built-in of that type does not honour,
// or is empty. With it goes a value, where only that is the trouble.
func unknownField(typ string, conf []byte) (string, error) {
	known, idle, _ := knownFields(typ)
	if typ != "host-local" {
		known += " " + commonFields
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(conf, &fields); err != nil {
		return "", err
	}
	var bad []string
	for name, value := range fields {
		switch {
		case slices.Contains(strings.Fields(known), name):
		case slices.Contains(strings.Fields(idle), name) && isZero(value):
		case typ == "portmap" && name == "snat" && string(value) == "true": // its default
		default:
			bad = append(bad, name)
		}
	}
	if len(bad) > 0 {
		return fmt.Sprintf("field %q", slices.Min(bad)), nil
	}
	return unknownValue(typ, conf), nil
}

func isZero(value json.RawMessage) bool {
	switch string(bytes.TrimSpace(value)) {
	case "null", "false", "0", `""`, "[]", "{}":
		return true
	}
	return false
}

// unknownValue names a value that only the binary may know.
func unknownValue(typ string, conf []byte) string {
	var c struct {
		IngressPolicy string `json:"ingressPolicy"`
		Mode          string `json:"mode"`
	}
	if json.Unmarshal(conf, &c) != nil {
		return "" // the plugin's own reading says what is wrong
	}
	if typ == "firewall" && c.IngressPolicy != "" && c.IngressPolicy != "open" && c.IngressPolicy != "same-bridge" {
		return fmt.Sprintf("ingressPolicy %q", c.IngressPolicy)
	}
	if typ == "macvlan" && !slices.Contains([]string{"", "bridge", "private", "vepa", "passthru"}, c.Mode) {
		return fmt.Sprintf("mode %q", c.Mode)
	}
	return ""
}

// plan says which implementation runs which type of a list.
type plan map[string]string

// resolve makes the plan. recorded is what an ADD was done with, nil when this
// is one.
func (c *CNI) resolve(list *libcni.NetworkConfigList, recorded map[string]string) (plan, error) {
	p := plan{}
	for i, conf := range list.Plugins {
		typ := conf.Network.Type
		how, err := c.choose(list.Name, typ, conf.Bytes, recorded)
		if err != nil {
			return nil, err
		}
		// What goes with a main plugin that is a binary is better a binary, too:
		// they know of each other's rules.
		if main := list.Plugins[0].Network.Type; i > 0 && how == Builtin && p[main] != Builtin && recorded == nil {
			if path, err := invoke.FindInPath(typ, c.opts.Path); err == nil {
				how = path
			}
		}
		if p[typ] == "" || how != Builtin { // one type twice: what one of them needs, both get
			p[typ] = how
		}
		ipamType := conf.Network.IPAM.Type
		if how != Builtin || ipamType == "" {
			continue // a binary looks for its IPAM plugin by itself
		}
		var whole struct {
			IPAM json.RawMessage `json:"ipam"`
		}
		if err := json.Unmarshal(conf.Bytes, &whole); err != nil {
			return nil, fault.Invalid("conflist of network %s: %w", list.Name, err)
		}
		if p[ipamType], err = c.choose(list.Name, ipamType, whole.IPAM, recorded); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (c *CNI) choose(network, typ string, conf []byte, recorded map[string]string) (string, error) {
	if how := recorded[typ]; how != "" {
		if how == Builtin && !isBuiltin(typ) {
			return "", fault.Unsupported("network %s: plugin %s was run by a program that has it built in; this one has not", network, typ)
		}
		return how, nil
	}
	why := "the type is not built in"
	if isBuiltin(typ) {
		unknown, err := unknownField(typ, conf)
		if err != nil {
			return "", fault.Invalid("conflist of network %s: plugin %s: %w", network, typ, err)
		}
		if unknown == "" {
			return Builtin, nil
		}
		why = "the built-in one does not know " + unknown
	}
	path, err := invoke.FindInPath(typ, c.opts.Path)
	if err != nil {
		return "", fault.Unsupported("network %s: plugin %s cannot be run: %s, and there is no binary of that name in %s",
			network, typ, why, strings.Join(c.opts.Path, ":"))
	}
	return path, nil
}

// hostLocal is the "ipam" section that the built-in host-local reads.
type hostLocal struct {
	Type      string         `json:"type"`
	DataDir   string         `json:"dataDir"`
	Ranges    [][]rangeConf  `json:"ranges"`
	Routes    []*types.Route `json:"routes"`
	rangeConf                // the short form: one range
}

type rangeConf struct {
	Subnet     netip.Prefix `json:"subnet"`
	RangeStart netip.Addr   `json:"rangeStart"`
	RangeEnd   netip.Addr   `json:"rangeEnd"`
	Gateway    netip.Addr   `json:"gateway"`
}

// sets are the ranges, with their defaults filled in.
func (h *hostLocal) sets() ([]ipam.Set, error) {
	ranges := h.Ranges
	if h.Subnet.IsValid() {
		ranges = slices.Insert(slices.Clone(ranges), 0, []rangeConf{h.rangeConf})
	}
	var sets []ipam.Set
	for _, r := range ranges {
		var set ipam.Set
		for _, one := range r {
			set = append(set, ipam.Range{Subnet: one.Subnet.Masked(), Start: one.RangeStart, End: one.RangeEnd, Gateway: one.Gateway})
		}
		sets = append(sets, set)
	}
	return ipam.Canonical(sets)
}

func parseHostLocal(conf []byte) (*hostLocal, error) {
	var c struct {
		IPAM hostLocal `json:"ipam"`
	}
	if err := json.Unmarshal(conf, &c); err != nil {
		return nil, fault.Invalid("host-local: %w", err)
	}
	return &c.IPAM, nil
}
