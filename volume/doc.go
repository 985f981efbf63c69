// Package volume keeps data that outlives containers, and has the vocabulary
// of what a container can have mounted.
//
// A [Mount] is plain data: a directory of the host, a volume, memory, or the
// content of an image, at a path in the container. [ParseVolume], [ParseMount]
// and [ParseTmpfs] read Docker's flags -v, --mount and --tmpfs.
//
// A volume is a directory that amphora keeps under a name. It is made by
// [Manager.Create], or by the first container that mounts it; the first start
// of a container fills an empty one with what the image has there. It stays
// until it is removed, which nobody can while a container uses it or is being
// created with it, in whatever process. Volumes without a name are anonymous:
// they go with their container, and with [Manager.Prune].
//
// All volumes of a Root are shared by every process that opens it. A [Manager]
// makes and finds volumes, a [Volume] is one of them, an [Info] says what it
// looked like at one moment. Volumes are managed on every operating system;
// containers, and so the filling of volumes, need Linux.
package volume
