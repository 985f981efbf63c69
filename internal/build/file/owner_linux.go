package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"

	"github.com/moby/sys/user"
	fscopy "github.com/tonistiigi/fsutil/copy"

	"github.com/amphora-go/amphora/internal/archive"
	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// owner is who o means; nil: nobody was named. A name that the input does not
// know is root, as in BuildKit. A user by number without a group has the group
// of the same number.
func (w *work) owner(o *op.Owner) (*fscopy.User, error) {
	if o == nil {
		return nil, nil
	}
	var u fscopy.User
	if id := o.User; id != nil && id.Name == "" {
		u.UID, u.GID = int(id.Number), int(id.Number)
	} else if id != nil {
		data, err := w.userFile(id.Input, "/etc/passwd")
		if err != nil {
			return nil, err
		}
		found, err := user.ParsePasswdFilter(bytes.NewReader(data), func(e user.User) bool { return e.Name == id.Name })
		if err != nil {
			return nil, fault.Opaque(fmt.Errorf("/etc/passwd: %w", err))
		}
		if len(found) > 0 {
			u.UID, u.GID = found[0].Uid, found[0].Gid
		}
	}
	if id := o.Group; id != nil && id.Name == "" {
		u.GID = int(id.Number)
	} else if id != nil {
		data, err := w.userFile(id.Input, "/etc/group")
		if err != nil {
			return nil, err
		}
		found, err := user.ParseGroupFilter(bytes.NewReader(data), func(e user.Group) bool { return e.Name == id.Name })
		if err != nil {
			return nil, fault.Opaque(fmt.Errorf("/etc/group: %w", err))
		}
		if len(found) > 0 {
			u.GID = found[0].Gid
		}
	}
	return &u, nil
}

// userFile reads a file of an input; a missing one is empty.
func (w *work) userFile(input int, name string) ([]byte, error) {
	f := w.tree
	if input != op.Scratch {
		var err error
		if f, err = w.input(input); err != nil {
			return nil, err
		}
	}
	data, err := archive.ReadInRoot(procPath(f), name, maxUserFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, fault.Opaque(err)
}

// chowner gives everything to u, or leaves the owners of what is copied.
func chowner(u *fscopy.User) fscopy.Chowner {
	return func(old *fscopy.User) (*fscopy.User, error) {
		if u != nil {
			return u, nil
		}
		return old, nil
	}
}
