package image

import (
	"net/url"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/google/go-containerregistry/pkg/name"
)

// foreignSources are the addresses that a foreign layer's descriptor gives. An
// image decides which hosts are asked, so nothing goes there that says who
// asks: no credentials, and no client certificates. What comes is verified
// like everything else. Plain HTTP is for hosts of Options.Insecure only.
func (s *Store) foreignSources(blob ocispec.Descriptor, stall time.Duration) []*source {
	var out []*source
	for _, address := range blob.URLs {
		u, err := url.Parse(address)
		plain := err == nil && u.Scheme == "http" && slices.Contains(s.opts.Insecure, u.Host)
		if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && !plain {
			continue
		}
		reg, err := name.NewRegistry(u.Host, name.Insecure)
		if err != nil {
			continue
		}
		out = append(out, &source{host: u.Host, registry: reg, log: s.log, fixed: address,
			wire: newWire(u.Host, u.Scheme, "", &wireOptions{lax: laxHosts(s.opts.Insecure), certs: &certificates{}, stall: stall})})
	}
	return out
}
