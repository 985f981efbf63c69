package rootdir

import (
	"io/fs"
	"time"
)

// Stat describes a file.
type Stat struct {
	Mode    fs.FileMode
	Size    int64
	ModTime time.Time
}
