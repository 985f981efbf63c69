// Package loop is the main loop of the benchmark's small programs: one
// operation for each line of standard input, the time that it took on standard
// output.
package loop

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"
)

// Do calls do with the words of each line and answers with nanoseconds and the
// text that do returned, or with "error" and the error.
func Do(do func(words []string) (string, error)) {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		words := strings.Fields(in.Text())
		begin := time.Now()
		text, err := do(words)
		if took := time.Since(begin); err == nil {
			fmt.Println(took.Nanoseconds(), text)
		} else {
			fmt.Println("error", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}
