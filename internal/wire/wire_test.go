package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"testing"

	"github.com/amphora-go/amphora/internal/fault"
)

func TestHello(t *testing.T) {
	for h, ok := range map[Hello]bool{
		{Protocol: Protocol, Minimum: Minimum}:             true,
		{Protocol: Protocol + 1, Minimum: Protocol}:        true,
		{Protocol: Protocol + 9, Minimum: 1}:               true,
		{Protocol: Protocol + 1, Minimum: Protocol + 1}:    false,
		{Protocol: Minimum - 1, Minimum: Minimum - 1}:      false,
		{Protocol: 0, Minimum: 0, Build: "something else"}: false,
	} {
		err := h.Check()
		if (err == nil) != ok {
			t.Errorf("%+v: %v", h, err)
		}
		if err != nil && (!errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), h.Build) ||
			!strings.Contains(err.Error(), fmt.Sprintf("%d to %d, this program %d to %d", h.Minimum, h.Protocol, Minimum, Protocol))) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

func TestErrorsKeepTheirKinds(t *testing.T) {
	for _, err := range []error{
		fault.NotExist("gone"), fault.Invalid("bad"), fault.Privilege("not you"), fault.Unsupported("not here"),
		fault.Kind(exec.ErrNotFound, "no command"), fmt.Errorf("start: %w", fault.ErrPaused), fault.ErrSlow, errors.New("plain"),
		fault.Opaque(fs.ErrNotExist),
	} {
		data, jerr := json.Marshal(Pack(err))
		if jerr != nil {
			t.Fatal(jerr)
		}
		var e *Error
		if err := json.Unmarshal(data, &e); err != nil {
			t.Fatal(err)
		}
		got := e.Unpack()
		if got.Error() != err.Error() {
			t.Errorf("%q became %q", err, got)
		}
		for _, k := range kinds {
			if errors.Is(got, k.err) != errors.Is(err, k.err) {
				t.Errorf("%q Is %v: %v, and was not, or the other way", got, k.name, errors.Is(got, k.err))
			}
		}
	}
	if Pack(nil) != nil || (*Error)(nil).Unpack() != nil {
		t.Error("nil became something")
	}
	later := &Error{Text: "x", Kinds: []string{"invented", "exist"}}
	if err := later.Unpack(); !errors.Is(err, fs.ErrExist) || err.Error() != "x" {
		t.Errorf("%v", err)
	}
}
