package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// freezeLimit is for processes in uninterruptible sleep to stop.
const freezeLimit = 10 * time.Second

// Freeze stops all processes of the group, and returns when they have stopped,
// or lets them go on. If it fails they go on.
func Freeze(group string, on bool) error {
	ds, err := dirs(group)
	if err != nil {
		return err
	}
	for _, d := range ds {
		for _, f := range []freezer{{"freezer.state", "FROZEN", "THAWED", "freezer.state", "FROZEN"}, {"cgroup.freeze", "1", "0", "cgroup.events", "frozen 1"}} {
			err := f.set(d, on)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			return err
		}
	}
	return fmt.Errorf("control group %s cannot be frozen: it has no freezer", group)
}

type freezer struct{ file, on, off, state, frozen string }

func (f *freezer) set(dir string, on bool) error {
	file := filepath.Join(dir, f.file)
	if _, err := os.Stat(file); err != nil {
		return err
	}
	if !on {
		return os.WriteFile(file, []byte(f.off), 0)
	}
	for end := time.Now().Add(freezeLimit); ; time.Sleep(time.Millisecond) {
		if err := os.WriteFile(file, []byte(f.on), 0); err != nil { // v1 must be told again when a process was just forked
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, f.state))
		if err != nil {
			return err
		}
		if strings.Contains(string(b), f.frozen) {
			return nil
		}
		if time.Now().After(end) {
			os.WriteFile(file, []byte(f.off), 0)
			return fmt.Errorf("the processes of %s did not stop within %v", dir, freezeLimit)
		}
	}
}
