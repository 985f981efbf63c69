package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/opencontainers/go-digest"
)

// form is hashed first: it changes when the encoding does.
const form = "amphora tree 1\n"

// summer hashes nodes in an encoding that can be read back in one way only:
// numbers have a fixed size, strings their length before them, lists their
// number of members.
type summer struct {
	h     hash.Hash
	buf   []byte
	seen  map[inode]uint64
	count uint64 // of nodes before this
}

func sum(root *node) digest.Digest {
	s := &summer{h: sha256.New(), seen: map[inode]uint64{}}
	s.h.Write([]byte(form))
	s.node(root)
	s.flush()
	return digest.NewDigest(digest.SHA256, s.h)
}

func (s *summer) node(n *node) {
	s.text(n.name)
	s.number(uint64(n.mode))
	at := s.count
	s.count++
	if n.linked {
		if first, ok := s.seen[n.ino]; ok {
			s.number(first + 1) // all else is its first name's
			return
		}
		s.seen[n.ino] = at
	}
	s.number(0)
	s.number(uint64(n.uid))
	s.number(uint64(n.gid))
	s.number(n.rdev)
	if n.opaque {
		s.number(1)
	} else {
		s.number(0)
	}
	s.text(n.link)
	s.number(uint64(len(n.xattrs)))
	for _, x := range n.xattrs {
		s.text(x.Key)
		s.text(x.Value)
	}
	s.buf = append(s.buf, n.content[:]...)
	s.number(uint64(len(n.kids)))
	for _, k := range n.kids {
		s.node(k)
	}
	if len(s.buf) > 16<<10 {
		s.flush()
	}
}

func (s *summer) number(v uint64) { s.buf = binary.BigEndian.AppendUint64(s.buf, v) }

func (s *summer) text(v string) {
	s.number(uint64(len(v)))
	s.buf = append(s.buf, v...)
}

func (s *summer) flush() {
	s.h.Write(s.buf)
	s.buf = s.buf[:0]
}
