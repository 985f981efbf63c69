package main

import (
	"os"
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "serve" {
		main()
		return
	}
	testenv.Main(m)
}

// TestRun runs the example; that nothing is left is checked by testenv as well.
func TestRun(t *testing.T) {
	testenv.Root(t)
	t.Setenv("TMPDIR", testenv.Dir(t))
	if err := run(t.Context()); err != nil {
		t.Fatal(err)
	}
}
