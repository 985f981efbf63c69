package image

import "github.com/amphora-go/amphora/internal/fault"

// TrustRule says what images of a registry, or of a part of it, need.
type TrustRule struct {
	Scope   string
	Require string
	Keys    []string
}

func (r *TrustRule) check() error {
	return fault.Unsupported("rules of trust are not applied by this version")
}
