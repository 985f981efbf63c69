// Package build makes images from Dockerfiles.
package build
