//go:build !unix

package atomicfile

import "os"

// Directories cannot be synced on Windows; renames are journalled there.
func syncDir(*os.File) error { return nil }
