package container

import (
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

func TestRunFromRootfs(t *testing.T) {
	m := newManager(t)
	c := m.Command(t.Context(), "", "echo", "hello")
	c.Rootfs = testenv.Rootfs(t)
	out, err := c.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != "hello" {
		t.Errorf("output %q", got)
	}
}
