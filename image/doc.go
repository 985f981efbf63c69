// Package image handles container images: it pulls them from registries and
// pushes them there, loads them from archives, makes them from a root
// filesystem, names, lists and removes them, and unpacks them for containers.
//
// All images of a Root are shared by every process that opens it. A [Store]
// finds and makes images, an [Image] is one of them, an [Info] says what it
// looked like at one moment.
//
// An image has an id, the digest of its configuration, and any number of
// names such as docker.io/library/alpine:latest, which Docker and this package
// shorten to alpine; see [ParseRef]. Blobs and layers are kept once, whoever
// needs them, and go with the last image that does.
//
// [Store.Prune] removes what is not needed, [Store.Usage] says what takes the
// room, [Settings] bound it; [Store.Verify] proves every byte and [Store.Repair]
// fetches what is damaged anew. Which images may be pulled at all, and by whom
// they must be signed, is said by a [TrustRule].
//
// Everything works on every operating system, except that layers are unpacked
// on Linux as root only: elsewhere images stay packed.
package image
