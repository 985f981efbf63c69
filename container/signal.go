package container

import (
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// signals are Linux's numbers, whatever system this program runs on.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "IOT": 6, "BUS": 7, "FPE": 8, "KILL": 9, "USR1": 10, "SEGV": 11,
	"USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15, "STKFLT": 16, "CHLD": 17, "CONT": 18, "STOP": 19, "TSTP": 20, "TTIN": 21,
	"TTOU": 22, "URG": 23, "XCPU": 24, "XFSZ": 25, "VTALRM": 26, "PROF": 27, "WINCH": 28, "IO": 29, "POLL": 29, "PWR": 30, "SYS": 31,
	"RTMIN": 34, "RTMAX": 64,
}

// ParseSignal returns the number of a signal given as "SIGTERM", "TERM",
// "15", "RTMIN+3" or "RTMAX-2".
func ParseSignal(name string) (int, error) {
	bad := fault.Invalid("unknown signal %q: use a name such as SIGTERM, or a number from 1 to 64", name)
	if n, err := strconv.Atoi(name); err == nil {
		if n < 1 || n > 64 {
			return 0, bad
		}
		return n, nil
	}
	s := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	if n, ok := signals[s]; ok {
		return n, nil
	}
	for _, base := range []string{"RTMIN+", "RTMAX-"} {
		if rest, ok := strings.CutPrefix(s, base); ok {
			d, err := strconv.Atoi(rest)
			n := 34 + d
			if base == "RTMAX-" {
				n = 64 - d
			}
			if err == nil && d >= 0 && n >= 34 && n <= 64 {
				return n, nil
			}
		}
	}
	return 0, bad
}
