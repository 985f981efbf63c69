package amphora

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/record"
)

// Settings are what all programs on a Root must agree on. They are kept in the
// Root; zero values are the defaults.
type Settings struct {
	// Pools are where subnets of networks are chosen from. Default: /24 from
	// 10.210.0.0/16. For IPv6 a random prefix of the Root's own follows them.
	Pools []Pool
	// Plugins lists directories of CNI plugins, for network drivers that are
	// not built in. Default: /opt/cni/bin and /usr/lib/cni.
	Plugins []string
	// Conflists lists directories with CNI configuration lists of other tools,
	// such as /etc/cni/net.d: their networks can be used, and are not changed.
	Conflists []string
	// BuildCache is what the cache of builds may take up on disk, in bytes; what
	// images need as well does not count. After each build that has made it grow
	// beyond, what was not used for the longest time goes. Default: no limit.
	BuildCache int64
	// Images say how much images may take on disk and which may be pulled.
	Images image.Settings
}

// Pool is a range of addresses that is cut into subnets with prefixes of Size
// bits.
type Pool struct {
	Base netip.Prefix
	Size int
}

// Configure changes the settings of the Root for all programs, and returns what
// they are now; nil only reads them. Engines that are open keep the directories
// that they have worked with. When change fails, nothing is changed.
func (e *Engine) Configure(ctx context.Context, change func(*Settings) error) (Settings, error) {
	var now Settings
	r, err := e.root.Configure(ctx, func(r *record.Settings) error {
		now = settingsOf(r)
		if change == nil {
			return nil
		}
		if err := change(&now); err != nil {
			return err
		}
		if err := now.check(); err != nil {
			return err
		}
		r.Pools = nil
		for _, p := range now.Pools {
			r.Pools = append(r.Pools, record.Pool(p))
		}
		r.Plugins, r.Conflists, r.BuildCache = now.Plugins, now.Conflists, now.BuildCache
		r.Images = record.Images{MaxBytes: now.Images.MaxBytes, DropBlobs: now.Images.DropBlobs}
		for _, rule := range now.Images.Trust {
			r.Images.Trust = append(r.Images.Trust, record.TrustRule(rule))
		}
		return nil
	})
	if err != nil {
		return Settings{}, fault.New("configure", e.root.Dir, err)
	}
	return settingsOf(&r), nil
}

func settingsOf(r *record.Settings) Settings {
	s := Settings{Plugins: r.Plugins, Conflists: r.Conflists, BuildCache: r.BuildCache}
	for _, p := range r.Pools {
		s.Pools = append(s.Pools, Pool(p))
	}
	s.Images.MaxBytes, s.Images.DropBlobs = r.Images.MaxBytes, r.Images.DropBlobs
	for _, rule := range r.Images.Trust {
		s.Images.Trust = append(s.Images.Trust, image.TrustRule(rule))
	}
	return s
}

func (s *Settings) check() error {
	if s.BuildCache < 0 {
		return fault.Invalid("limit of the build cache %d: give a number of bytes, or 0 for none", s.BuildCache)
	}
	for _, p := range s.Pools {
		if !p.Base.IsValid() || p.Base != p.Base.Masked() {
			return fault.Invalid("address pool %s: give a prefix with no bits below its mask, such as 10.210.0.0/16", p.Base)
		}
		if room := p.Base.Addr().BitLen() - p.Size; p.Size < p.Base.Bits() || room < 2 {
			return fault.Invalid("address pool %s: subnets of /%d do not fit in it, or hold no container", p.Base, p.Size)
		}
	}
	for _, dir := range slices.Concat(s.Plugins, s.Conflists) {
		if !filepath.IsAbs(dir) {
			return fault.Invalid("directory %q: give an absolute path", dir)
		}
	}
	return s.Images.Check()
}
