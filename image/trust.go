package image

import (
	"context"
	"crypto"
	"fmt"
	"io/fs"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// What TrustRule.Require may be.
const (
	TrustAccept    = "accept"    // pulled as they are
	TrustReject    = "reject"    // not pulled
	TrustSignature = "signature" // pulled when one of the keys signed them
)

// TrustRule says what images of a registry, or of a part of it, need to be
// pulled. It is checked once the registry said which manifest is meant, before
// anything else is fetched or unpacked. What is in the store already, and what
// Load and Import bring, is not asked for.
type TrustRule struct {
	// Scope is what the rule is about: "" everything; "docker.io" a registry,
	// "*.example.com" all below a domain; "docker.io/library" what lies below a
	// path; "docker.io/library/alpine" a repository.
	Scope string
	// Require is TrustAccept, TrustReject or TrustSignature.
	Require string
	// Keys are public keys in PEM: ECDSA, Ed25519, or RSA of at least 2048
	// bits. A signature by any of them suffices. Signatures are those of cosign
	// with a key: in the tag sha256-DIGEST.sig, or in a manifest that refers to
	// the image, with a payload of "simple signing" or as a DSSE envelope. A
	// payload that names a repository must name the one that is pulled from.
	Keys []string
}

func (r *TrustRule) check() error {
	host, path, _ := strings.Cut(r.Scope, "/")
	if r.Scope != "" {
		name := strings.TrimPrefix(host, "*.")
		if path != "" {
			name += "/" + path
		} else {
			name += "/x"
		}
		if ref, err := parseRef(name); err != nil || ref.Registry != strings.TrimPrefix(host, "*.") || strings.ContainsAny(r.Scope, "@ ") {
			return fault.Invalid("scope %q of a rule of trust: give a registry, such as docker.io, and perhaps a path below it", r.Scope)
		}
	}
	switch r.Require {
	case TrustAccept, TrustReject:
		return nil
	case TrustSignature:
	default:
		return fault.Invalid("a rule of trust for %q requires %q: use accept, reject or signature", r.Scope, r.Require)
	}
	if len(r.Keys) == 0 {
		return fault.Invalid("a rule of trust for %q requires a signature: give keys", r.Scope)
	}
	_, err := r.keys()
	return err
}

func (r *TrustRule) keys() ([]crypto.PublicKey, error) {
	var out []crypto.PublicKey
	for _, text := range r.Keys {
		k, err := parseKey(text)
		if err != nil {
			return nil, fault.Invalid("a key of the rule of trust for %q: %w", r.Scope, err)
		}
		out = append(out, k)
	}
	return out, nil
}

// fits is how well a rule fits a repository: the length of what it says, -1
// when it is about others.
func (r *TrustRule) fits(ref Ref) int {
	host, path, _ := strings.Cut(r.Scope, "/")
	domain, wild := strings.CutPrefix(host, "*")
	switch {
	case r.Scope == "":
		return 0
	case wild && !strings.HasSuffix(ref.Registry, domain), !wild && ref.Registry != host:
		return -1
	case path != "" && ref.Repository != path && !strings.HasPrefix(ref.Repository, path+"/"):
		return -1
	case wild:
		return len(r.Scope) - 1 // an exact host says more
	}
	return len(r.Scope)
}

// ruleFor finds the rule that says the most about a repository, nil if none.
// Of equals the first counts.
func ruleFor(rules []TrustRule, ref Ref) *TrustRule {
	var best *TrustRule
	at := -1
	for i := range rules {
		if n := rules[i].fits(ref); n > at {
			best, at = &rules[i], n
		}
	}
	return best
}

// trust is what a pull must fulfil: the Root's rule and the program's.
type trust struct{ rules []*TrustRule }

// trust finds the rules for a pull, and rejects what they reject.
func (s *Store) trust(ref Ref) (*trust, error) {
	set, err := s.settings()
	if err != nil {
		return nil, err
	}
	t := &trust{}
	for _, rules := range [][]TrustRule{set.Trust, s.opts.Trust} {
		r := ruleFor(rules, ref)
		if r == nil {
			continue
		}
		// What this version does not understand must not pass.
		if err := r.check(); err != nil {
			return nil, err
		}
		switch r.Require {
		case TrustReject:
			return nil, fault.Kind(fs.ErrPermission, "images of %s are rejected by the rule of trust for %s", ref.Name(), r.about())
		case TrustSignature:
			t.rules = append(t.rules, r)
		}
	}
	return t, nil
}

func (r *TrustRule) about() string {
	if r.Scope == "" {
		return "everything"
	}
	return r.Scope
}

// verify sees that each rule has a signature of one of the digests: of what a
// name stands for, or of the manifest that was chosen from it.
func (t *trust) verify(ctx context.Context, p *puller, ref Ref, digests ...string) error {
	if len(t.rules) == 0 {
		return nil
	}
	var found []signature
	for i, d := range digests {
		if i > 0 && d == digests[0] {
			continue
		}
		some, err := p.signatures(ctx, d)
		if err != nil {
			return fmt.Errorf("signatures of %s cannot be read: %w", d, err)
		}
		found = append(found, some...)
	}
	for _, r := range t.rules {
		keys, err := r.keys()
		if err != nil {
			return err
		}
		if err := signedBy(found, keys, ref); err != nil {
			return fault.Kind(fs.ErrPermission, "%s is not trusted by the rule for %s: %w", digests[0], r.about(), err)
		}
	}
	return nil
}
