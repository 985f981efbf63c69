package journal

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"time"
)

// Event is one entry of the log. Type is the kind of object ("container",
// "image", "volume", "network", "engine"), Action what happened to it, in
// Docker's words ("create", "start", "die" ...).
type Event struct {
	Seq        uint64            `json:"seq"`
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"`
	Action     string            `json:"action"`
	ID         string            `json:"id"`
	Attributes map[string]string `json:"attrs,omitempty"`
}

// entry is an event on disk. File is the base name of the file that Update
// replaced with it: an object has several files, and a prepared one that was
// never logged must not be taken for another's that got its number.
type entry struct {
	Event
	File string `json:"file,omitempty"`
}

// header is the first line of a segment. First is the number of its first
// event; Boot the boot in which it was begun.
type header struct {
	Version int    `json:"journal"`
	First   uint64 `json:"first"`
	Boot    string `json:"boot"`
}

const formatVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A line is eight hex digits of CRC-32C, a space, JSON, a newline.
func encodeLine(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	line := make([]byte, 0, len(body)+10)
	line = fmt.Appendf(line, "%08x ", crc32.Checksum(body, castagnoli))
	line = append(line, body...)
	return append(line, '\n'), nil
}

// checkLine returns the JSON of a line without its newline, or false when the
// line is torn or damaged.
func checkLine(line []byte) ([]byte, bool) {
	if len(line) < 10 || line[8] != ' ' {
		return nil, false
	}
	var sum [4]byte
	if _, err := hex.Decode(sum[:], line[:8]); err != nil {
		return nil, false
	}
	body := line[9:]
	want := uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
	return body, crc32.Checksum(body, castagnoli) == want
}

func decodeEvent(line []byte) (entry, bool) {
	var ev entry
	body, ok := checkLine(line)
	if !ok || json.Unmarshal(body, &ev) != nil || ev.Seq == 0 {
		return entry{}, false
	}
	return ev, true
}
