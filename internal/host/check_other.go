//go:build !linux

package host

// Check says what is missing off Linux.
func Check(string, string) []Finding {
	return []Finding{{Name: "Linux", Problem: "containers run on Linux only; images and registries work here", Cure: "run the program on Linux", Needed: true}}
}
