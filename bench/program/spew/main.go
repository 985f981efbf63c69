// Command spew runs inside the containers: it writes COUNT lines of 100 bytes,
// each with a write of its own ("line"), or 64 KiB at a time ("block").
//
//	spew COUNT line|block
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
)

func main() {
	n, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	var w io.Writer = os.Stdout
	if os.Args[2] == "block" {
		buffered := bufio.NewWriterSize(os.Stdout, 64<<10)
		defer buffered.Flush()
		w = buffered
	}
	text := strings.Repeat("the quick brown fox jumps over the lazy dog ", 3)
	line := make([]byte, 0, 128)
	for i := range n {
		line = fmt.Appendf(line[:0], "%08d %s", i, text)
		line = append(line[:99], '\n')
		if _, err := w.Write(line); err != nil {
			log.Fatal(err)
		}
	}
}
