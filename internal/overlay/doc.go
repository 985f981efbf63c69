// Package overlay mounts a container's layers as one tree by the kernel's new
// mount API: one fsconfig call for each layer, so that neither the length of
// paths nor the 4 KiB of mount(2) limit their number.
package overlay

// Layers are the parts of one overlay.
type Layers struct {
	Lower    []string // read-only directories, top first; at least one
	Upper    string   // writable directory; empty: the mount is read-only
	Work     string   // empty directory on Upper's file system
	Volatile bool     // no syncs: Upper is lost with the machine's power
}
