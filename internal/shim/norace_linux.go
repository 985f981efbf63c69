//go:build !race

package shim

var raceEnv []string
