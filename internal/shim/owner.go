package shim

import (
	"errors"
	"os"

	"github.com/amphora-go/amphora/internal/pidfd"
)

// Owner is this process as supervisors see it: a pipe whose other end we hold,
// and a descriptor of the process. When either speaks, we are gone.
type Owner struct {
	ours, theirs *os.File
	self         *os.File
}

// NewOwner makes one for any number of containers.
func NewOwner() (*Owner, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	self, err := pidfd.Self()
	if err != nil {
		return nil, errors.Join(err, r.Close(), w.Close())
	}
	return &Owner{ours: w, theirs: r, self: self}, nil
}

// Files are what LaunchOptions.Owners takes.
func (o *Owner) Files() []*os.File { return []*os.File{o.theirs, o.self} }

// Close ends what is owned and has no other owner.
func (o *Owner) Close() error {
	if o == nil {
		return nil
	}
	return errors.Join(o.ours.Close(), o.theirs.Close(), o.self.Close())
}
