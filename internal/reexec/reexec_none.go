//go:build !linux || !cgo

package reexec

// Supported says whether this build can start containers: it needs Linux,
// and cgo for libcontainer's namespace code.
const Supported = false
