package record

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
)

// OpenDirs is OpenRoot with defaults for the directories that are not given.
func OpenDirs(ctx context.Context, root, state string) (*Root, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	root, state, err := Dirs(root, state)
	if err != nil {
		return nil, err
	}
	return OpenRoot(ctx, root, state)
}

// Dirs makes the directories that a caller gave absolute, and fills in the
// default ones for what he did not give.
func Dirs(root, state string) (string, string, error) {
	if root == "" || state == "" {
		r, s, err := defaultDirs()
		if err != nil {
			return "", "", err
		}
		root, state = cmp.Or(root, r), cmp.Or(state, s)
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return "", "", err
	}
	state, err = filepath.Abs(state)
	return root, state, err
}

// defaultDirs are the directories used when none are given: /var/lib/amphora
// and /run/amphora for root, else below $XDG_DATA_HOME (~/.local/share) and
// $XDG_RUNTIME_DIR (or the directory for temporary files).
func defaultDirs() (root, state string, err error) {
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
