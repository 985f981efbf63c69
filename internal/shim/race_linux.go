//go:build race

package shim

// raceEnv keeps the race detector from sleeping for a second at the end of
// every supervisor, with the container's lock held.
var raceEnv = []string{"GORACE=atexit_sleep_ms=0"}
