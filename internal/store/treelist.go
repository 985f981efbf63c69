package store

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/amphora-go/amphora/internal/atomicfile"
)

// treeEntry is all of a file of a layer that an overlay of it shows.
type treeEntry struct {
	Path  string `json:"path"` // relative to the tree, "." for its root
	Mode  uint32 `json:"mode"` // as stat has it, with the file type
	UID   uint32 `json:"uid,omitempty"`
	GID   uint32 `json:"gid,omitempty"`
	Size  int64  `json:"size,omitempty"` // of regular files
	MTime int64  `json:"mtime"`          // in nanoseconds
	Dev   uint64 `json:"dev,omitempty"`  // of devices; 0 is a whiteout
	Link  string `json:"link,omitempty"` // target of a symbolic link
	Same  string `json:"same,omitempty"` // first path of the same file
	Attrs string `json:"attrs,omitempty"`
	Sum   string `json:"sum,omitempty"` // SHA-256 of the content
}

// listPath is where the list of a layer lies whose blob was dropped: what
// verifies the tree from then on.
func (s *Store) listPath(chain string) string { return s.path("layers", chain, "list.gz") }

// writeList records the tree of a layer, durably.
func (s *Store) writeList(chain string, list []treeEntry) error {
	r, w := io.Pipe()
	go func() {
		z := gzip.NewWriter(w)
		e := json.NewEncoder(z)
		var err error
		for i := range list {
			if err = e.Encode(&list[i]); err != nil {
				break
			}
		}
		w.CloseWithError(errors.Join(err, z.Close()))
	}()
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return s.trouble(atomicfile.Write(s.listPath(chain), data, 0o600, true))
}

// readList is nil when none was recorded.
func (s *Store) readList(chain string) ([]treeEntry, error) {
	f, err := os.Open(s.listPath(chain))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, s.trouble(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(bufio.NewReader(f))
	if err != nil {
		return nil, fmt.Errorf("its list of files is damaged: %w", err)
	}
	list := []treeEntry{}
	for d := json.NewDecoder(z); ; {
		var e treeEntry
		if err := d.Decode(&e); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, fmt.Errorf("its list of files is damaged: %w", err)
		}
		list = append(list, e)
	}
}

// anyTime is one that fits all.
const anyTime = -1 << 63

// sameTime compares times, of which an archive may keep the seconds alone.
func sameTime(want, have int64) bool {
	const second = 1e9
	return want == anyTime || want == have || want%second == 0 && want == have-have%second
}

func (e treeEntry) withTime(t int64) treeEntry {
	e.MTime = t
	return e
}

// maxDifferences is how many differing files an error names.
const maxDifferences = 5

// compareTrees says what of have is not as in want; nil when nothing.
func compareTrees(want, have []treeEntry) error {
	var named []string
	n := 0
	differ := func(path, what string) {
		if n++; n <= maxDifferences {
			named = append(named, fmt.Sprintf("%s %q", what, path))
		}
	}
	there := make(map[string]*treeEntry, len(have))
	for i := range have {
		there[have[i].Path] = &have[i]
	}
	for i := range want {
		e := there[want[i].Path]
		switch {
		case e == nil:
			differ(want[i].Path, "lacks")
		case e.withTime(want[i].MTime) == want[i] && sameTime(want[i].MTime, e.MTime):
		default:
			differ(want[i].Path, "has changed "+difference(&want[i], e)+" of")
		}
		delete(there, want[i].Path)
	}
	for i := range have {
		if there[have[i].Path] != nil {
			differ(have[i].Path, "has a stray")
		}
	}
	if n == 0 {
		return nil
	}
	if n > maxDifferences {
		return fmt.Errorf("its tree %v and %d more", named, n-maxDifferences)
	}
	return fmt.Errorf("its tree %v", named)
}

func difference(a, b *treeEntry) string {
	switch {
	case a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID:
		return "mode or owner"
	case a.Size != b.Size || a.Sum != b.Sum || a.Link != b.Link || a.Dev != b.Dev:
		return "content"
	case a.Attrs != b.Attrs:
		return "attributes"
	case a.Same != b.Same:
		return "links"
	}
	return "time"
}
