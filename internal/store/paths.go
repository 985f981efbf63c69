package store

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
)

// DefaultDirs are the directories used when none are given: /var/lib/amphora
// and /run/amphora for root, else below $XDG_DATA_HOME (~/.local/share) and
// $XDG_RUNTIME_DIR (or the directory for temporary files).
func DefaultDirs() (root, state string, err error) {
	if os.Geteuid() == 0 {
		return "/var/lib/amphora", "/run/amphora", nil
	}
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", "", errors.New("no home directory is known: give a root directory")
		}
		data = filepath.Join(home, ".local", "share")
	}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		return filepath.Join(data, "amphora"), filepath.Join(os.TempDir(), "amphora-"+strconv.Itoa(os.Getuid())), nil
	}
	return filepath.Join(data, "amphora"), filepath.Join(run, "amphora"), nil
}
