package image

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// patience is the longest that a request waits because a registry asked for
// it. Beyond that somebody must decide: docker.io counts in hours.
const patience = 30 * time.Second

// limitError says that a registry allows no more requests for now.
type limitError struct {
	err  error
	wait time.Duration // that the registry asked for, 0 if it did not
	text string
}

func (e *limitError) Error() string { return e.text }
func (e *limitError) Unwrap() error { return e.err }

// limitOf reads what a registry says with status 429: Retry-After in seconds or
// as a date (RFC 9110, 10.2.3), and what Docker Hub adds: "ratelimit-limit:
// 100;w=21600", "ratelimit-remaining: 0;w=21600", "docker-ratelimit-source:
// 192.0.2.1".
func limitOf(h http.Header, now time.Time) *limitError {
	e := &limitError{}
	if s := h.Get("Retry-After"); s != "" {
		if n, err := strconv.Atoi(s); err == nil && n >= 0 {
			e.wait = time.Duration(min(n, 1<<31)) * time.Second
		} else if at, err := http.ParseTime(s); err == nil {
			e.wait = max(0, at.Sub(now)).Round(time.Second)
		}
	}
	var says []string
	if n, window, ok := quota(h.Get("Ratelimit-Limit")); ok {
		s := fmt.Sprintf("%d requests are allowed", n)
		if window > 0 {
			s += " in " + window.String()
			if e.wait == 0 {
				e.wait = window // at most
			}
		}
		if from := h.Get("Docker-Ratelimit-Source"); from != "" && len(from) < 100 {
			s += " for " + printable(from)
		}
		says = append(says, s)
	}
	if e.wait > 0 {
		says = append(says, fmt.Sprintf("try again in %s, at %s", e.wait, now.Add(e.wait).Format("15:04:05")))
	}
	e.text = strings.Join(says, "; ")
	return e
}

// quota reads "100;w=21600".
func quota(s string) (n int, window time.Duration, ok bool) {
	first, rest, _ := strings.Cut(s, ";")
	n, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0, 0, false
	}
	if w, found := strings.CutPrefix(strings.TrimSpace(rest), "w="); found {
		if seconds, err := strconv.Atoi(w); err == nil && seconds > 0 && seconds < 1<<31 {
			window = time.Duration(seconds) * time.Second
		}
	}
	return n, window, true
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

// limited explains status 429.
func (s *source) limited(err error) error {
	e := &limitError{err: err}
	s.wire.mu.Lock()
	told := s.wire.limit
	s.wire.mu.Unlock()
	says := ""
	if told != nil {
		e.wait = told.wait
		if told.text != "" {
			says = " (" + told.text + ")"
		}
	}
	e.text = fmt.Sprintf("registry %s allows no more requests for now%s: %v; log in, wait, or set a mirror", s.host, says, err)
	return e
}
