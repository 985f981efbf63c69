package store

import (
	"os"

	"github.com/amphora-go/amphora/internal/fault"
)

// CanUnpack reports why layers cannot be unpacked here: their files belong to
// other users, and only root may give files away.
func CanUnpack() error {
	if os.Geteuid() != 0 {
		return fault.Privilege("unpacking layers needs root (effective user id is %d); run the program as root", os.Geteuid())
	}
	return nil
}
