package archive

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/amphora-go/amphora/internal/fault"
)

// ReadInRoot reads the regular file that path leads to with symbolic links
// resolved as if root were "/". Nothing but a regular file is opened, so that
// neither a fifo blocks nor a device acts; more than max bytes are refused.
// The error Is fs.ErrNotExist when there is no such file, and fs.ErrInvalid
// when it is something else or too large.
func ReadInRoot(root, path string, max int64) ([]byte, error) {
	dir, err := openRetry(func() (int, error) {
		return unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, fault.Opaque(pathErr("open", root, err))
	}
	defer unix.Close(dir)
	fd, err := openat2(dir, path, unix.O_PATH, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
	if err != nil {
		return nil, pathErr("open", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, pathErr("stat", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, fault.Invalid("%s is not a regular file", path)
	}
	if st.Size > max {
		return nil, tooLarge(path, max)
	}
	f, err := os.OpenFile(procPath(fd), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > max {
		return nil, tooLarge(path, max)
	}
	return data, nil
}

func tooLarge(path string, max int64) error {
	return fault.Invalid("%s is larger than %d bytes", path, max)
}
