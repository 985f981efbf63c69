package image

import (
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/store"
)

// hostPlatform is the platform of containers here: always Linux, also where
// only images can be handled.
func hostPlatform() ocispec.Platform {
	return normal(ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH})
}

// parsePlatform reads "linux/arm64/v8"; "" is the host's. The operating system
// may be left out: "arm64".
func parsePlatform(s string) (ocispec.Platform, error) {
	if s == "" {
		return hostPlatform(), nil
	}
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return ocispec.Platform{}, fault.Invalid("platform %q is malformed: want os/architecture or os/architecture/variant, such as linux/arm64", s)
	}
	p := ocispec.Platform{OS: "linux"}
	switch len(parts) {
	case 1:
		p.Architecture = parts[0]
		if parts[0] == "linux" || parts[0] == "windows" {
			p.OS, p.Architecture = parts[0], runtime.GOARCH
		}
	case 3:
		p.Variant = parts[2]
		fallthrough
	default:
		p.OS, p.Architecture = parts[0], parts[1]
	}
	return normal(p), nil
}

// normal gives equal platforms equal words: uname's names become Go's, and a
// variant that is the architecture's only sensible default is filled in.
func normal(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i686":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Architecture == "arm64" && (p.Variant == "8" || p.Variant == "v8"):
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p
}

func formatPlatform(p ocispec.Platform) string {
	p = normal(p)
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// matches ranks how well an image for have runs on want: 0 exactly, greater
// numbers worse, -1 not at all. A 32-bit ARM runs what was built for older ones.
func matches(want, have ocispec.Platform) int {
	want, have = normal(want), normal(have)
	if want.OS != have.OS || want.Architecture != have.Architecture {
		return -1
	}
	if want.Variant == have.Variant {
		return 0
	}
	if want.Architecture == "arm" && have.Variant < want.Variant && have.Variant >= "v5" {
		return int(want.Variant[1] - have.Variant[1])
	}
	return -1
}

// choose picks the entry of an index for a platform.
func choose(entries []ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	var present []string
	best, rank := ocispec.Descriptor{}, -1
	for _, e := range entries {
		if store.IsAttestation(e) || !isManifestType(e.MediaType) {
			continue
		}
		if e.Platform == nil {
			present = append(present, "unknown")
			continue
		}
		present = append(present, formatPlatform(*e.Platform))
		if m := matches(want, *e.Platform); m >= 0 && (rank < 0 || m < rank) {
			best, rank = e, m
		}
	}
	if rank >= 0 {
		return best, nil
	}
	if len(present) == 1 && present[0] == "unknown" { // an index around a single image
		for _, e := range entries {
			if e.Platform == nil && isManifestType(e.MediaType) {
				return e, nil
			}
		}
	}
	if len(present) == 0 {
		return ocispec.Descriptor{}, fault.Invalid("the index lists no image")
	}
	slices.Sort(present)
	return ocispec.Descriptor{}, noPlatform(want, slices.Compact(present))
}

func noPlatform(want ocispec.Platform, present []string) error {
	return fault.NotExist("no image for platform %s; there are: %s", formatPlatform(want), strings.Join(present, ", "))
}

func isManifestType(t string) bool {
	switch t {
	case ocispec.MediaTypeImageManifest, store.DockerManifest, "":
		return true
	}
	return false
}

func isIndexType(t string) bool { return t == ocispec.MediaTypeImageIndex || t == store.DockerIndex }
