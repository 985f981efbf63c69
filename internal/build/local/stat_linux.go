package local

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/amphora-go/amphora/internal/atomicfile"
)

// magic begins a file of digests. It changes with the format:
//
//	magic | crc32c of the rest | directories
//	directory: text path | u32 number of records | text records
//	record: text name | dev ino size mtime ctime u64 | mode u32 | sum | text link | text xattrs
//
// where text is preceded by its length as u32 and all is little endian. It is
// not synced: what power loss leaves has another sum, and counts as empty.
const magic = "amstat\x001"

// remembered are records by directory, sorted by name.
type remembered struct {
	blocks map[string]block // of a file
	lists  map[string][]record
}

// block is a directory's records as the file has them.
type block struct {
	count int
	text  string
}

// load returns what the file remembers: nothing, if it is not whole.
func load(name string) *remembered {
	r := &remembered{blocks: map[string]block{}}
	if name == "" {
		return r
	}
	data, err := os.ReadFile(name)
	if err != nil || len(data) < len(magic)+4 || string(data[:len(magic)]) != magic {
		return r
	}
	rest := data[len(magic)+4:]
	if crc32.Checksum(rest, castagnoli()) != binary.LittleEndian.Uint32(data[len(magic):]) {
		return r
	}
	d := decoder{s: string(rest), ok: true}
	for d.ok && d.s != "" {
		dir, count := d.text(), int(d.u32())
		if text := d.text(); d.ok {
			r.blocks[dir] = block{count, text}
		}
	}
	return r
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// dir returns the records of a directory.
func (r *remembered) dir(name string) []record {
	if list, ok := r.lists[name]; ok {
		return list
	}
	b, ok := r.blocks[name]
	if !ok {
		return nil
	}
	d := decoder{s: b.text, ok: true}
	list := make([]record, 0, min(b.count, len(b.text)/recordMin+1))
	for d.ok && d.s != "" {
		list = append(list, record{})
		d.record(&list[len(list)-1])
	}
	if !d.ok {
		return nil
	}
	return list
}

// find returns the record of name if it has that stamp. Names that are asked
// for come in order, so list is what was not passed yet.
func find(list *[]record, name string, st *stamp) *record {
	l := *list
	for len(l) > 0 && l[0].name < name {
		l = l[1:]
	}
	*list = l
	if len(l) > 0 && l[0].name == name && l[0].stamp == *st {
		return &l[0]
	}
	return nil
}

// visit is a directory that a scan listed.
type visit struct {
	rel string
	at  *entry
	old []record
}

// save writes what is to be remembered after a scan: the entries that can be
// trusted later, what was known of names that this scan's filter hides, and
// directories that it did not enter.
func (s *scanner) save(name string) error {
	visited := make(map[string]*visit, len(s.visits))
	var buf []byte
	var recs []byte
	for _, v := range s.visits {
		visited[v.rel] = v
		keep := s.keep(v)
		recs = recs[:0]
		for _, r := range keep {
			recs = appendRecord(recs, r)
		}
		buf = appendBlock(buf, v.rel, len(keep), recs)
	}
	for dir, b := range s.known.blocks {
		if visited[dir] == nil && s.stillThere(visited, dir) {
			buf = appendBlock(buf, dir, b.count, []byte(b.text))
		}
	}
	head := binary.LittleEndian.AppendUint32([]byte(magic), crc32.Checksum(buf, castagnoli()))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(name, append(head, buf...), 0o600, false)
}

// keep are the records of a directory that are to be remembered, sorted.
func (s *scanner) keep(v *visit) []*record {
	list := make([]*record, 0, len(v.at.kids))
	for _, k := range v.at.kids {
		if s.trusted(&k.stamp) && !k.gone {
			list = append(list, &k.record)
		}
	}
	sorted := len(list)
	for i := range v.old {
		if _, hidden := slices.BinarySearch(v.at.hidden, v.old[i].name); hidden {
			list = append(list, &v.old[i])
		}
	}
	if len(list) > sorted {
		slices.SortFunc(list, func(a, b *record) int { return strings.Compare(a.name, b.name) })
	}
	return list
}

// stillThere says whether a directory that was not entered may still exist:
// this scan saw the name that leads to it, hidden by the filter.
func (s *scanner) stillThere(visited map[string]*visit, dir string) bool {
	for dir != "." {
		up, name := path.Dir(dir), path.Base(dir)
		if v := visited[up]; v != nil {
			_, ok := slices.BinarySearch(v.at.hidden, name)
			return ok
		}
		dir = up
	}
	return false
}

// recordFixed is the size of a record without texts, recordMin with empty ones.
const (
	recordFixed = 5*8 + 4 + 32
	recordMin   = 4 + recordFixed + 4 + 4
)

func appendRecord(buf []byte, r *record) []byte {
	buf = appendText(buf, r.name)
	for _, v := range [...]uint64{r.stamp.dev, r.stamp.ino, r.stamp.size, uint64(r.stamp.mtime), uint64(r.stamp.ctime)} {
		buf = binary.LittleEndian.AppendUint64(buf, v)
	}
	buf = binary.LittleEndian.AppendUint32(buf, r.stamp.mode)
	buf = append(buf, r.sum[:]...)
	return appendText(appendText(buf, r.link), r.xattrs)
}

func appendBlock(buf []byte, dir string, count int, recs []byte) []byte {
	if count == 0 {
		return buf
	}
	buf = appendText(buf, dir)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(count))
	buf = binary.LittleEndian.AppendUint32(buf, uint32(len(recs)))
	return append(buf, recs...)
}

func appendText(buf []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(buf, uint32(len(s))), s...)
}

// decoder reads from the beginning of s until something is missing.
type decoder struct {
	s  string
	ok bool
}

func (d *decoder) take(n uint64) string {
	if !d.ok || n > uint64(len(d.s)) {
		d.ok = false
		return ""
	}
	part := d.s[:n]
	d.s = d.s[n:]
	return part
}

func (d *decoder) u32() uint32 {
	p := d.take(4)
	if !d.ok {
		return 0
	}
	return u32(p)
}

func u32(p string) uint32 {
	return uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16 | uint32(p[3])<<24
}

func u64(p string) uint64 { return uint64(u32(p)) | uint64(u32(p[4:8]))<<32 }

func (d *decoder) text() string { return d.take(uint64(d.u32())) }

func (d *decoder) record(r *record) {
	r.name = d.text()
	p := d.take(recordFixed)
	r.link, r.xattrs = d.text(), d.text()
	if !d.ok {
		return
	}
	r.stamp = stamp{dev: u64(p), ino: u64(p[8:]), size: u64(p[16:]), mtime: int64(u64(p[24:])), ctime: int64(u64(p[32:])), mode: u32(p[40:])}
	copy(r.sum[:], p[44:])
}

// remember makes records of a manifest, to compare a later scan with it.
func (m *Manifest) remember() *remembered {
	r := &remembered{lists: map[string][]record{}}
	var walk func(rel string, e *entry)
	walk = func(rel string, e *entry) {
		list := make([]record, len(e.kids))
		for i, k := range e.kids {
			list[i] = k.record
			if k.dir() {
				walk(join(rel, k.name), k)
			}
		}
		r.lists[rel] = list
	}
	walk(".", m.root)
	return r
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}
