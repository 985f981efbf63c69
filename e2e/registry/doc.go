// Package registry has clients that others wrote copy an image into and out of
// image.Serve: skopeo as Debian has it, and go-containerregistry's crane as a Go
// package. What comes out must have the digest of what went in.
//
// It wants Debian's package skopeo, and skips that part when it is missing.
package registry
