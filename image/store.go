package image

import (
	"context"
	"log/slog"
	"path/filepath"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/store"
)

// Error is the error of every method of this package: the operation, the
// image as the caller named it, and the cause.
type Error = fault.Error

// ErrInUse is in the error of Remove when a container uses the image.
var ErrInUse = fault.ErrInUse

// Options say where images live and how registries are reached. The zero
// value is usable.
type Options struct {
	// Root holds the images; default /var/lib/amphora, or
	// $XDG_DATA_HOME/amphora (~/.local/share/amphora) when not root.
	Root string
	// State holds what does not survive a reboot; default /run/amphora, or
	// $XDG_RUNTIME_DIR/amphora when not root.
	State string
	// Logger receives what no caller waits for. Nil discards.
	Logger *slog.Logger
	// Keychain gives credentials for registries. Nil: DockerKeychain.
	Keychain Keychain
	// Mirrors lists, for a registry host, base URLs that are tried first, in
	// order: "docker.io": {"http://127.0.0.1:5000"}. When none can serve an
	// image the registry itself is asked.
	Mirrors map[string][]string
	// Insecure lists registries (host or host:port) that may be reached by
	// unverified TLS or plain HTTP. Loopback addresses always may.
	Insecure []string
	// Certificates lists directories in Docker's layout: HOST[:PORT]/*.crt are
	// authorities that are trusted for that host besides the system's, and
	// NAME.cert with NAME.key what this client shows. Default
	// ~/.docker/certs.d and /etc/docker/certs.d; empty but not nil is none.
	Certificates []string
	// Trust is what this program asks of images that it pulls, besides what
	// the Root's Settings.Trust asks: both must be fulfilled.
	Trust []TrustRule
}

// Store is the images of one Root. It is safe for concurrent use; any number
// of processes may work on one Root.
type Store struct {
	s      *store.Store
	opts   Options
	log    *slog.Logger
	health *health
}

// Open returns the images of opts.Root. It holds nothing that would have to be
// closed: the directory is the state. Nil options are valid.
func Open(ctx context.Context, opts *Options) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var o Options
	if opts != nil {
		o = *opts
	}
	var err error
	if o.Root, o.State, err = record.Dirs(o.Root, o.State); err != nil {
		return nil, fault.New("image open", o.Root, err)
	}
	s := store.Open(o.Root, o.State, journal.Open(filepath.Join(o.Root, "journal")))
	s.Logger = o.Logger
	return New(s, &o), nil
}

// New is Open on a store that an engine opened already. Programs use Open.
func New(s *store.Store, opts *Options) *Store {
	st := &Store{s: s}
	if opts != nil {
		st.opts = *opts
	}
	st.opts.Root, st.opts.State = s.Root(), s.State()
	st.health = &health{dir: filepath.Join(s.State(), "mirrors")}
	st.log = st.opts.Logger
	if st.log == nil {
		st.log = slog.New(slog.DiscardHandler)
	}
	return st
}

// Root is the directory that the images live in.
func (s *Store) Root() string { return s.s.Root() }

// Underlying is the store that s was made of by New or Open: for packages of
// this module that work on the same layers, as image/build does.
func (s *Store) Underlying() *store.Store { return s.s }
