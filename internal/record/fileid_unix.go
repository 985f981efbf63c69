//go:build unix

package record

import (
	"fmt"
	"syscall"
)

// fileID tells a directory from another made later at the same path.
func fileID(path string) (string, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d:%d", uint64(st.Dev), st.Ino), nil
}
