// Package amphora embeds containers in a Go program.
package amphora
