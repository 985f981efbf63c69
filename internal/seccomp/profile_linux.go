package seccomp

import (
	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/amphora-go/amphora/internal/fault"
)

// Default is Docker's default profile for a container with the bounding
// capabilities of spec, on this machine's architecture and kernel. spec may
// be nil: no capabilities.
func Default(spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	p, err := moby.GetDefaultProfile(bounded(spec))
	if err != nil {
		return nil, fault.Opaque(err)
	}
	return p, nil
}

// Parse resolves a profile in Docker's JSON format (archMap, includes and
// excludes by capability, architecture and minKernel; the format from before
// Docker 1.12 too) as [Default] does.
//
// Docker takes a profile without default action and rules, such as {}, for
// no confinement at all. Here that is an error: it hides a mistake.
func Parse(json []byte, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	p, err := moby.LoadProfile(string(json), bounded(spec))
	if err != nil {
		return nil, fault.Invalid("seccomp profile: %w", err)
	}
	if p == nil {
		return nil, fault.Invalid("seccomp profile: it has neither defaultAction nor rules; to run without a filter, say unconfined")
	}
	return p, nil
}

// bounded gives what the module reads of a spec without checking for nil.
func bounded(spec *specs.Spec) *specs.Spec {
	caps := &specs.LinuxCapabilities{}
	if spec != nil && spec.Process != nil && spec.Process.Capabilities != nil {
		caps.Bounding = spec.Process.Capabilities.Bounding
	}
	return &specs.Spec{Process: &specs.Process{Capabilities: caps}}
}
