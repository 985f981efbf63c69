package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseBytes reads "64m": bytes, with a suffix b, k, m, g or t (powers of
// 1024).
func parseBytes(s string) (int64, error) {
	digits := strings.TrimRight(strings.ToLower(s), "ib")
	factor := 1.0
	if digits != "" {
		if i := strings.IndexByte("kmgt", digits[len(digits)-1]); i >= 0 {
			digits = digits[:len(digits)-1]
			factor = float64(int64(1) << (10 * (i + 1)))
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !(n >= 0 && n*factor < 1<<63) {
		return 0, errors.New("want a number of bytes, such as 64m or 1.5g")
	}
	return int64(n * factor), nil
}

// parseSwap is parseBytes, with -1 for no limit.
func parseSwap(s string) (int64, error) {
	if s == "-1" {
		return -1, nil
	}
	return parseBytes(s)
}

// parseNumber reads an integer of any size and sign that its type has.
func parseNumber[T int | int64 | uint64 | uint16](s string) (T, error) {
	var n T
	if _, err := fmt.Sscanf(s+"\n", "%d\n", &n); err != nil {
		return 0, errors.New("want a whole number that is not too large")
	}
	return n, nil
}

func parseFloat(s string) (float64, error) {
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0, errors.New("want a number, such as 1.5")
	}
	return n, nil
}

// parseGrace reads the seconds before a container is killed, for the library's
// time-outs, where 0 is the default: none at all is the shortest time there is.
func parseGrace(s string) (time.Duration, error) {
	n, err := strconv.Atoi(s)
	switch {
	case err != nil:
		return 0, errors.New("want a number of seconds; -1 waits for ever")
	case n == 0:
		return time.Nanosecond, nil
	}
	return time.Duration(n) * time.Second, nil
}

// parseTime reads a point in time as Docker does: a date, a number of seconds
// since 1970, or a duration before now.
func parseTime(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && strings.Trim(s, "0123456789.") != "" {
		return time.Now().Add(-d), nil
	}
	if sec, err := strconv.ParseFloat(s, 64); err == nil {
		return time.Unix(0, int64(sec*1e9)), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("want a time such as 2026-01-02T13:23:37, seconds since 1970, or 10m for ten minutes ago")
}

// age is how long ago something was, in Docker's words.
func age(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return span(time.Since(t)) + " ago"
}

// span is a duration in Docker's words.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	plural := func(unit time.Duration, name string) string { return fmt.Sprintf("%d %s", int(d/unit), name) }
	switch d = max(d, 0); {
	case d < time.Second:
		return "Less than a second"
	case d < 2*time.Second:
		return "1 second"
	case d < time.Minute:
		return plural(time.Second, "seconds")
	case d < 2*time.Minute:
		return "About a minute"
	case d < time.Hour:
		return plural(time.Minute, "minutes")
	case d < 90*time.Minute:
		return "About an hour"
	case d < 2*day-time.Hour/2:
		d += time.Hour / 2 // hours are rounded
		return plural(time.Hour, "hours")
	case d < 14*day:
		return plural(day, "days")
	case d < 60*day:
		return plural(7*day, "weeks")
	case d < 2*365*day:
		return plural(30*day, "months")
	}
	return plural(365*day, "years")
}

// size is a number of bytes as Docker shows it: three digits, powers of 1000.
func size(n int64) string {
	f, units := float64(n), []string{"B", "kB", "MB", "GB", "TB"}
	for len(units) > 1 && f >= 999.5 {
		f, units = f/1000, units[1:]
	}
	return fmt.Sprintf("%.3g%s", f, units[0])
}

// short is the beginning of an id that people are shown.
func short(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}

// cut shortens s to n characters.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
