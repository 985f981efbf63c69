package amphora_test

import (
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/image"
)

func TestConfigure(t *testing.T) {
	dir := t.TempDir()
	opts := &amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")}
	eng, err := amphora.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	pool := amphora.Pool{Base: netip.MustParsePrefix("10.9.0.0/16"), Size: 26}
	if _, err := eng.Configure(t.Context(), func(s *amphora.Settings) error {
		s.Pools, s.Plugins = []amphora.Pool{pool}, []string{"/opt/cni/bin"}
		s.BuildCache = 5 << 30
		s.Images = image.Settings{MaxBytes: 1 << 30, DropBlobs: true, Trust: []image.TrustRule{{Scope: "docker.io", Require: image.TrustReject}}}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*amphora.Settings) error{
		"bits":     func(s *amphora.Settings) error { s.Pools[0].Base = netip.MustParsePrefix("10.9.0.1/16"); return nil },
		"size":     func(s *amphora.Settings) error { s.Pools[0].Size = 31; return nil },
		"relative": func(s *amphora.Settings) error { s.Conflists = []string{"net.d"}; return nil },
		"cache":    func(s *amphora.Settings) error { s.BuildCache = -1; return nil },
		"trust":    func(s *amphora.Settings) error { s.Images.Trust = []image.TrustRule{{Require: "maybe"}}; return nil },
		"limit":    func(s *amphora.Settings) error { s.Images.MaxBytes = -1; return nil },
		"own":      func(s *amphora.Settings) error { return fs.ErrInvalid },
	} {
		if _, err := eng.Configure(t.Context(), change); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other, err := amphora.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	got, err := other.Configure(t.Context(), nil)
	if err != nil || len(got.Pools) != 1 || got.Pools[0] != pool || len(got.Plugins) != 1 || len(got.Conflists) != 0 || got.BuildCache != 5<<30 ||
		got.Images.MaxBytes != 1<<30 || !got.Images.DropBlobs || len(got.Images.Trust) != 1 || got.Images.Trust[0].Require != image.TrustReject {
		t.Errorf("another program sees %+v, %v", got, err)
	}
}
