package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
)

// nameVersion is the format of name files. A file of a greater version is
// refused; unknown fields of the same version are kept when it is rewritten.
const nameVersion = 1

// Name is a name of an image, as one file holds it.
type Name struct {
	Version int `json:"version"`
	// Name is the canonical reference, such as docker.io/library/alpine:latest.
	// Empty: the image has no name and this file alone keeps it.
	Name string `json:"name"`
	// Target is what the name stands for: a manifest, or an index of several
	// platforms of which Manifest was chosen.
	Target    digest.Digest `json:"target"`
	MediaType string        `json:"mediaType"`
	Manifest  digest.Digest `json:"manifest"`
	// ImageID is the digest of the chosen platform's config.
	ImageID  digest.Digest `json:"imageID"`
	Platform string        `json:"platform"`
	// Artifact is what Target is when it is no container image: its artifact
	// type, or else a media type. Then Manifest and ImageID are Target.
	Artifact string `json:"artifact,omitempty"`
	// Pulled says that a registry knows Target under this name's repository.
	Pulled bool `json:"pulled,omitempty"`
	// Pushed says that a client of the registry sent it to this store: nobody
	// else need have it.
	Pushed  bool      `json:"pushed,omitempty"`
	Changed time.Time `json:"changed"`
	// Seq is the number of the event that made this version of the file.
	Seq uint64 `json:"seq"`
	// Removed marks a file that is about to be unlinked.
	Removed bool `json:"removed,omitempty"`

	unknown map[string]json.RawMessage
}

type plainName Name // without methods

func (n *Name) encode() ([]byte, error) {
	n.Version = nameVersion
	known, err := json.Marshal((*plainName)(n))
	if err != nil || len(n.unknown) == 0 {
		return append(known, '\n'), err
	}
	all := map[string]json.RawMessage{}
	for k, v := range n.unknown {
		all[k] = v
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(known, &fields); err != nil {
		return nil, err
	}
	for k, v := range fields {
		all[k] = v
	}
	data, err := json.Marshal(all)
	return append(data, '\n'), err
}

func decodeName(data []byte, file string) (*Name, error) {
	n := new(Name)
	if err := json.Unmarshal(data, (*plainName)(n)); err != nil {
		return nil, fault.Opaque(fmt.Errorf("image name file %s is damaged: %w", file, err))
	}
	if n.Version > nameVersion {
		return nil, fault.Unsupported("image name file %s has version %d, this program reads up to %d: update it", file, n.Version, nameVersion)
	}
	for _, d := range []digest.Digest{n.Target, n.Manifest, n.ImageID} {
		if err := CheckDigest(d); err != nil {
			return nil, fault.Opaque(fmt.Errorf("image name file %s is damaged: %w", file, err))
		}
	}
	if err := json.Unmarshal(data, &n.unknown); err != nil {
		return nil, fault.Opaque(err)
	}
	for _, k := range nameFields {
		delete(n.unknown, k)
	}
	return n, nil
}

var nameFields = []string{"version", "name", "target", "mediaType", "manifest", "imageID", "platform", "artifact", "pulled", "changed", "seq", "removed"}

// fileName is unambiguous also on file systems that ignore case.
func (n *Name) fileName() string {
	if n.Name == "" {
		return "%none-" + encoded(n.ImageID) + ".json"
	}
	return escapeName(n.Name) + ".json"
}

// escapeName keeps [a-z0-9._-] and writes the rest as %XX. Names too long for
// a file (255 bytes, with room for suffixes) are hashed: the file says which.
func escapeName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() > 200 {
		return "%long-" + encoded(digestOf([]byte(name)))
	}
	return b.String()
}
