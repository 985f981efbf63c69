package host

import (
	"strings"
	"sync"

	"github.com/moby/sys/capability"
)

// Capabilities are those that this process can give to a container, by their
// names ("CAP_CHOWN"): "all" means no more, since asking the kernel for one
// that we lack ourselves fails.
var Capabilities = sync.OnceValue(func() []string {
	own, err := capability.NewPid2(0)
	if err == nil {
		err = own.Load()
	}
	known, lerr := capability.ListSupported()
	if err != nil || lerr != nil {
		return nil
	}
	var names []string
	for _, c := range known {
		if own.Get(capability.BOUNDING, c) && own.Get(capability.PERMITTED, c) {
			names = append(names, "CAP_"+strings.ToUpper(c.String()))
		}
	}
	return names
})
