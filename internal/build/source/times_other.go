//go:build !unix

package source

import (
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

func setTimes(string, time.Time) error {
	return fault.Unsupported("times of links cannot be set on this system")
}
