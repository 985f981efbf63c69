package record

import (
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"ab": true, "a1_.-": true, "0a": true, "A-b": true, strings.Repeat("a", maxName): true,
		"": false, "a": false, "_a": false, ".a": false, "-a": false, "a b": false, "a/b": false, "ä1": false, "a\x00": false,
		strings.Repeat("a", maxName+1): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("CheckName(%q) = %v", name, err)
		}
	}
}

func TestNewID(t *testing.T) {
	for range 100 {
		if id := NewID(); !IsID(id) || !strings.ContainsAny(Short(id), "abcdef") {
			t.Fatalf("NewID() = %q", id)
		}
	}
	for _, bad := range []string{"", "abc", strings.Repeat("A", 64), strings.Repeat("a", 63) + "/", strings.Repeat("a", 65)} {
		if IsID(bad) {
			t.Errorf("IsID(%q)", bad)
		}
	}
	for try := range 6 {
		if err := CheckName(randomName(try)); err != nil {
			t.Error(err)
		}
	}
}
