package build

import (
	"testing"

	"github.com/amphora-go/amphora/internal/testenv"
)

func TestMain(m *testing.M) {
	testenv.Child("export", childExport)
	testenv.Main(m)
}
