package jail

import (
	"strconv"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// maxCPU bounds the numbers of a list, so that "0-4000000000" stays cheap: the
// kernel's own bound (NR_CPUS) is 8192 at most.
const maxCPU = 8192

// CheckList checks a list such as "0-2,4" against what the machine has. When
// that is unknown (empty) only its form is checked.
func CheckList(what, list, available string) error {
	want, err := parseList(list)
	if err != nil {
		return fault.Invalid("%s %q: give numbers and ranges, such as 0-2,4", what, list)
	}
	have, err := parseList(available)
	if err != nil || len(have) == 0 {
		return nil
	}
	for n := range want {
		if !have[n] {
			return fault.Invalid("%s %q: this machine has %s", what, list, available)
		}
	}
	return nil
}

func parseList(list string) (map[int]bool, error) {
	set := map[int]bool{}
	if list == "" {
		return set, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		a, err := strconv.Atoi(first)
		if err != nil {
			return nil, err
		}
		b, err := strconv.Atoi(last)
		if err != nil {
			return nil, err
		}
		if a < 0 || b < a || b >= maxCPU {
			return nil, strconv.ErrRange
		}
		for ; a <= b; a++ {
			set[a] = true
		}
	}
	return set, nil
}
