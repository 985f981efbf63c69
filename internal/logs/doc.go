// Package logs writes and reads the log of a container: one JSON object a
// line, as Docker's json-file driver has it, so that collectors and people
// who know that format can read the files themselves:
//
//	{"log":"hello\n","stream":"stdout","time":"2026-11-23T17:56:00.123456789Z"}
//
// with "attrs" between stream and time if the writer was given any. A line of
// output longer than 16 KiB becomes several entries, all but the last without
// a newline; so does output that ended, or was flushed, in mid-line. Bytes
// that are no UTF-8 become U+FFFD, as JSON demands.
//
// The current file is path; path.1, path.2, ... are older ones. [Writer] is
// for one process, the container's shim. [Read] is for any process, also
// while the writer writes and rotates: it follows files by inode, so that
// rotation neither loses nor repeats an entry.
package logs

import "time"

// Stream is where a line came from.
type Stream string

// The streams of a container. With a terminal everything is Stdout.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Entry is one line, or a piece of one.
type Entry struct {
	Time   time.Time // when the supervisor read the chunk that ended the line
	Stream Stream
	Line   []byte            // with its newline if it had one; the receiver's to keep
	Attrs  map[string]string // only if ReadOptions.Attrs
}

// maxPiece bounds an entry: 16 KiB, as in Docker.
const maxPiece = 16 << 10

// maxLine bounds an encoded line, newline included. The longest that Writer
// makes has maxPiece bytes of six characters each and maxAttrs. What is longer
// is damage, such as the zeros that a power failure leaves, and is skipped.
const (
	maxLine  = 1 << 20
	maxAttrs = 64 << 10
)
