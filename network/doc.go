// Package network holds the vocabulary of containers' networks.
//
// A container has no network (none), the host's, or that of another
// container. Networks of their own come with the network manager, which is
// not part of this release.
package network
