package store

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/layers"
)

// CheckDigest refuses everything but a well-formed sha256 digest. It stands
// before every use of a digest as a file name.
func CheckDigest(d digest.Digest) error {
	algorithm, hex, ok := strings.Cut(string(d), ":")
	switch {
	case !ok:
		return fault.Invalid("digest %q is malformed: want sha256 and 64 hex digits", d)
	case algorithm != "sha256":
		return fault.Unsupported("digest %q: algorithm %s is not supported, only sha256", d, algorithm)
	case !isHex(hex):
		return fault.Invalid("digest %q is malformed: want 64 lower-case hex digits after sha256:", d)
	}
	return nil
}

func isHex(s string) bool { return layers.IsName(s) }

// encoded is the hex part of a digest that was checked.
func encoded(d digest.Digest) string { return strings.TrimPrefix(string(d), "sha256:") }

func digestOf(data []byte) digest.Digest {
	sum := sha256.Sum256(data)
	return fromSum(sum[:])
}

func fromSum(sum []byte) digest.Digest {
	return digest.Digest("sha256:" + hex.EncodeToString(sum))
}

// ChainIDs turns the diff ids of an image, bottom to top, into the chain ids
// that name its unpacked layers, without the "sha256:" prefix. (OCI image
// specification, config.md, "Layer ChainID".)
func ChainIDs(diffIDs []digest.Digest) []string {
	out := make([]string, len(diffIDs))
	chain := digest.Digest("")
	for i, d := range diffIDs {
		if i == 0 {
			chain = d
		} else {
			chain = digestOf([]byte(string(chain) + " " + string(d)))
		}
		out[i] = encoded(chain)
	}
	return out
}
