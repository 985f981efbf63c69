// Package deliver writes the files that a build made to where its caller wants
// them: into an archive or a directory.
package deliver

import "time"

// Tree is what a build made for one platform.
type Tree struct {
	// Lowers are the directories of its layers, topmost first; none: it is empty.
	Lowers []string
	// Name is the directory that it goes into if there are several trees.
	Name string
	// Latest, unless zero, takes the place of later times of files.
	Latest time.Time
}
