package amphora

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/container"
	"github.com/amphora-go/amphora/image"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/networks"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/recovery"
	"github.com/amphora-go/amphora/internal/store"
	"github.com/amphora-go/amphora/network"
	"github.com/amphora-go/amphora/volume"
)

// Error says which operation failed, on what, and why. Its kinds are those of
// io/fs and errors.ErrUnsupported, and the states of package container.
type Error = fault.Error

// Options say where an Engine works and how. Nil and the zero value are valid.
type Options struct {
	// Root holds images, containers and volumes. Default /var/lib/amphora, or
	// $XDG_DATA_HOME/amphora (~/.local/share/amphora) when not root.
	Root string
	// State holds what does not survive a reboot. Default /run/amphora, or
	// $XDG_RUNTIME_DIR/amphora when not root. All programs that share a Root
	// give the same State.
	State string
	// Logger receives what no caller waits for. Nil discards.
	Logger *slog.Logger
	// Keychain gives credentials for registries. Nil: Docker's config.json and
	// its credential helpers.
	Keychain image.Keychain
	// Mirrors lists, for a registry host, base URLs that are tried first:
	// "docker.io": {"http://127.0.0.1:5000"}.
	Mirrors map[string][]string
	// Insecure lists registries reached by plain HTTP or unverified TLS.
	Insecure []string
	// Certificates lists directories with authorities and client certificates
	// for registries, in Docker's layout, see image.Options. Default
	// ~/.docker/certs.d and /etc/docker/certs.d.
	Certificates []string
	// Trust is what this program asks of images that it pulls, besides what
	// Settings.Images.Trust asks of all programs.
	Trust []image.TrustRule
	// Helper is a program that is executed for supervisors instead of this
	// one: cmd/amphora-helper, or any that imports amphora. It keeps this
	// program's package inits, and cgo, out of them.
	Helper string
	// CgroupParent is the control group below which the Root's own is made.
	// Empty: the group that this process was given.
	CgroupParent string
	// KeepNetworks has Close leave the bridges of networks that nobody uses on
	// the host, as the next program's first container needs them: for short
	// programs that follow one another, such as a command line. Taking them away
	// holds Close up for some 70 ms, making them the next container for some 20.
	KeepNetworks bool
}

// Engine is one program's view of a Root. It is safe for concurrent use. Any
// number of Engines, in any number of processes, may be open on one Root, and
// one process may open several Roots.
type Engine struct {
	opts       Options
	root       *record.Root
	store      *store.Store
	images     *image.Store
	containers *container.Manager
	volumes    *volume.Manager
	networks   *network.Manager
	using      *flock.Lock // Root's networks: what is idle stays while it is held
	log        *slog.Logger
}

// Open opens a Root, making it if there is none. It starts nothing and, unless
// the machine was restarted since, reads one small file. Close the Engine when
// done.
//
// A Root whose containers run under another State, or in another pid or
// network namespace, is refused with an error that names what differs.
func Open(ctx context.Context, opts *Options) (*Engine, error) {
	e := &Engine{}
	if opts != nil {
		e.opts = *opts
	}
	e.log = e.opts.Logger
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if e.opts.Root, e.opts.State, err = record.Dirs(e.opts.Root, e.opts.State); err != nil {
		return nil, fault.New("open", e.opts.Root, err)
	}
	if e.root, err = record.OpenRoot(ctx, e.opts.Root, e.opts.State); err != nil {
		return nil, fault.New("open", e.opts.Root, err)
	}
	e.store = store.Open(e.root.Dir, e.root.State, e.root.Log)
	e.store.Logger = e.log
	e.images = image.New(e.store, &image.Options{Root: e.root.Dir, State: e.root.State, Logger: e.log,
		Keychain: e.opts.Keychain, Mirrors: e.opts.Mirrors, Insecure: e.opts.Insecure, Certificates: e.opts.Certificates, Trust: e.opts.Trust})
	e.volumes = volume.New(e.root)
	e.networks = network.New(e.root)
	if e.using, err = networks.Open(e.root).Use(ctx); err != nil {
		return nil, fault.New("open", e.opts.Root, err)
	}
	e.containers = container.New(e.root, e.images, &container.Options{Logger: e.log, Helper: e.opts.Helper, CgroupParent: e.opts.CgroupParent})
	if where := e.nested(); where != "" {
		e.log.Warn("amphora: "+where+" lies below the directory of the executable: starts copy the executable each time", "cure", "keep Root and State elsewhere")
	}
	return e, nil
}

// nested returns which of our directories lies below the executable's: the
// cheap sealing of the executable fails there.
func (e *Engine) nested() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	for name, dir := range map[string]string{"Root": e.opts.Root, "State": e.opts.State} {
		if strings.HasPrefix(dir+"/", filepath.Dir(exe)+"/") {
			return name + " (" + dir + ")"
		}
	}
	return ""
}

// Close ends the containers that this Engine owns and leaves the others
// running. It waits for layers that this program unpacked to reach the disk.
// When no container is attached to a network, and no other Engine is open on
// the Root, the networks' bridges and the packet filter are taken off the
// host, until the next container needs them (but see Options.KeepNetworks). It
// is idempotent.
func (e *Engine) Close() error {
	err := e.containers.Close()
	e.using.Release()
	if !e.opts.KeepNetworks {
		// What cannot be taken away now goes with a later Close.
		if ierr := networks.Open(e.root).Idle(context.Background()); ierr != nil {
			e.log.Warn("amphora: the networks' bridges stay on the host", "error", ierr)
		}
	}
	e.store.Wait()
	return err
}

// Images returns the image store, Containers, Volumes and Networks the managers of the
// Root's other objects.
func (e *Engine) Images() *image.Store           { return e.images }
func (e *Engine) Containers() *container.Manager { return e.containers }
func (e *Engine) Volumes() *volume.Manager       { return e.volumes }
func (e *Engine) Networks() *network.Manager     { return e.networks }

// Root is the directory of images, containers and volumes; State that of what
// does not survive a reboot.
func (e *Engine) Root() string  { return e.root.Dir }
func (e *Engine) State() string { return e.root.State }

// Command describes a container that runs arg in an image, to be used as an
// os/exec.Cmd. The image is pulled when it is missing, or as Pull says. The
// container ends with this program, or when ctx does, and Wait removes it.
func (e *Engine) Command(ctx context.Context, img string, arg ...string) *container.Cmd {
	cmd := e.containers.Command(ctx, img, arg...)
	cmd.Prepare = func(ctx context.Context) error {
		if cmd.Rootfs != "" {
			return nil
		}
		return e.pull(ctx, cmd.Image, cmd.Pull)
	}
	return cmd
}

func (e *Engine) pull(ctx context.Context, img string, policy container.PullPolicy) error {
	switch policy {
	case container.PullNever:
		return nil // Create says when it is missing
	case container.PullAlways:
	case container.PullMissing, "":
		_, err := e.images.Get(ctx, img)
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
	default:
		return fault.Invalid("unknown pull policy %q: use missing, always or never", policy)
	}
	_, err := e.images.Pull(ctx, img, nil)
	return err
}

// Report is what Recover found and mended, as container ids.
type Report struct {
	Mended  []string // recorded as running, but nobody supervised them: now they are exited
	Removed []string // should have been removed at their end
	Dropped []string // never made completely
}

// Recover judges every record and makes it true. It starts nothing. Without
// it, each record is judged when it is next read.
func (e *Engine) Recover(ctx context.Context) (*Report, error) {
	r, err := recovery.All(ctx, e.root)
	if r == nil {
		return nil, fault.New("recover", e.root.Dir, err)
	}
	return &Report{Mended: r.Mended, Removed: r.Removed, Dropped: r.Dropped}, fault.New("recover", e.root.Dir, err)
}
