// Package volume keeps data that outlives containers, and has the vocabulary
// of what a container can have mounted.
//
// A [Mount] is plain data: a directory of the host, a volume, memory, or the
// content of an image, at a path in the container. [ParseVolume], [ParseMount]
// and [ParseTmpfs] read Docker's flags -v, --mount and --tmpfs.
package volume
