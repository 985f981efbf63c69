package main

import (
	"bytes"
	"testing"
	"time"
)

func TestParseBytes(t *testing.T) {
	for s, want := range map[string]int64{"0": 0, "5": 5, "5b": 5, "1k": 1024, "1K": 1024, "64m": 64 << 20, "1.5g": 3 << 29, "2GiB": 2 << 30, "1tb": 1 << 40} {
		if got, err := parseBytes(s); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "m", "-1", "1x", "1mm", "1e30g", "nan"} {
		if got, err := parseBytes(s); err == nil {
			t.Errorf("%q: %d", s, got)
		}
	}
}

func TestSpan(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Second: "Less than a second", 999 * time.Millisecond: "Less than a second", time.Second: "1 second", 2 * time.Second: "2 seconds",
		59 * time.Second: "59 seconds", time.Minute: "About a minute", 2 * time.Minute: "2 minutes", 59 * time.Minute: "59 minutes",
		61 * time.Minute: "About an hour", 100 * time.Minute: "2 hours", 47 * time.Hour: "47 hours", 2 * day: "2 days", 13 * day: "13 days",
		14 * day: "2 weeks", 60 * day: "2 months", 364 * day: "12 months", 800 * day: "2 years",
	} {
		if got := span(d); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1kB", 1234: "1.23kB", 999_999: "1MB", 5_800_000: "5.8MB", 123_456_789: "123MB", 3e15: "3e+03TB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestParseTime(t *testing.T) {
	at := time.Date(2026, 1, 2, 13, 23, 37, 0, time.UTC)
	for _, s := range []string{"2026-01-02T13:23:37Z", "1767360217", "2026-01-02T14:23:37+01:00", "1767360217.0"} {
		if got, err := parseTime(s); err != nil || !got.Equal(at) {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	if got, err := parseTime("1h30m"); err != nil || time.Since(got) < 89*time.Minute || time.Since(got) > 91*time.Minute {
		t.Errorf("1h30m: %v, %v", got, err)
	}
	if _, err := parseTime("yesterday"); err == nil {
		t.Error("yesterday is accepted")
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	rows := []volumeRow{{Driver: "local", Name: "data"}, {Driver: "local", Name: "x"}}
	for _, tt := range []struct {
		format string
		quiet  bool
		want   string
	}{
		{"", false, "DRIVER    VOLUME NAME\nlocal     data\nlocal     x\n"},
		{"", true, "data\nx\n"},
		{`{{.Name}}\t{{upper .Driver}}`, false, "data\tLOCAL\nx\tLOCAL\n"},
	} {
		b.Reset()
		if err := volumeTable.print(&b, tt.format, tt.quiet, rows); err != nil || b.String() != tt.want {
			t.Errorf("%q: %q, %v", tt.format, b.String(), err)
		}
	}
	for _, bad := range []string{"{{", "{{.Nope}}"} {
		if err := volumeTable.print(&b, bad, false, rows); err == nil {
			t.Errorf("format %q is accepted", bad)
		}
	}
}
