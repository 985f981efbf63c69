package build

import (
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/image"
)

// Result is what a build made.
type Result struct {
	// ID is the image's id: the digest of its configuration, as `docker build
	// --iidfile` writes it, or if there are several platforms that of the index.
	// Manifest is the digest of the manifest, or of the index. Both are "" if
	// files alone were wanted (OutputDir, OutputTar).
	ID, Manifest string
	// Descriptor is that of Manifest.
	Descriptor ocispec.Descriptor
	// Image is the image in the store: the one for this host's platform, or
	// else the first. It is nil if no output is an image in the store.
	Image *image.Image
	// Names are the names that it got there.
	Names []string
	// Platforms are the parts, in the order of the request.
	Platforms []PlatformResult
	Warnings  []Warning // of lint
	// Syntax is the frontend that the Dockerfile asks for with "# syntax="; the
	// built-in one was used.
	Syntax string
}

// PlatformResult is what a build made for one platform.
type PlatformResult struct {
	Platform     string // such as "linux/arm64"
	ID, Manifest string
}

// Metadata is what `docker build --metadata-file` writes: values for JSON under
// the same keys.
func (r *Result) Metadata() map[string]any {
	m := map[string]any{}
	if r.Manifest == "" {
		return m
	}
	m["containerimage.descriptor"] = r.Descriptor
	m["containerimage.digest"] = r.Manifest
	if r.ID != r.Manifest {
		m["containerimage.config.digest"] = r.ID
	}
	if len(r.Names) > 0 {
		m["image.name"] = strings.Join(r.Names, ",")
	}
	return m
}
