package record

import (
	"os"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// stored is Config as it is read: with the Linux part of the OCI configuration
// alone. encoding/json keeps what it learns of every type that it could meet,
// for good; without Windows, Solaris and virtual machines each idle supervisor
// needs a tenth less memory.
type stored struct {
	Config
	OCI *linuxSpec `json:"oci"`
}

type linuxSpec struct {
	Version     string            `json:"ociVersion"`
	Process     *specs.Process    `json:"process,omitempty"`
	Root        *specs.Root       `json:"root,omitempty"`
	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Mounts      []specs.Mount     `json:"mounts,omitempty"`
	Hooks       *specs.Hooks      `json:"hooks,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Linux       *specs.Linux      `json:"linux,omitempty"`
}

// LoadConfig reads config.json, and what was changed since.
func (r *Root) LoadConfig(id string) (*Config, error) {
	path := r.Path(id, "config.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Opaque(err)
	}
	var s stored
	if err := decode(path, b, &s); err != nil {
		return nil, err
	}
	if s.OCI == nil || s.OCI.Process == nil || s.OCI.Linux == nil || s.OCI.Root == nil {
		return nil, fault.Opaque(fault.Invalid("%s is damaged: it lacks a part of the OCI configuration", path))
	}
	s.Config.OCI = &specs.Spec{Version: s.OCI.Version, Process: s.OCI.Process, Root: s.OCI.Root, Hostname: s.OCI.Hostname,
		Domainname: s.OCI.Domainname, Mounts: s.OCI.Mounts, Hooks: s.OCI.Hooks, Annotations: s.OCI.Annotations, Linux: s.OCI.Linux}
	if c, err := r.Load(id); err == nil && c.Update != nil {
		s.Config.OCI.Linux.Resources, s.Config.Limits = c.Update.Resources, c.Update.Limits
	}
	return &s.Config, nil
}
