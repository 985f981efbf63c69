package image

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/amphora-go/amphora/internal/fault"
)

// LoginOptions tune Login and Logout.
type LoginOptions struct {
	// Config is the directory of Docker's config.json. Default $DOCKER_CONFIG,
	// or ~/.docker, where DockerKeychain looks.
	Config string
}

// LoggedIn says where Login put the credentials.
type LoggedIn struct {
	// Helper is the credential helper that keeps them, such as "pass"; "" when
	// they stand in File, encoded but readable to whoever reads the file.
	Helper string
	File   string
}

// Login checks credentials against a registry and, if it accepts them, keeps
// them where Docker does: in the helper that config.json names for this
// registry or for all of them, else in config.json itself, which is replaced
// at once, with mode 0600, and keeps whatever else it says. "" and
// "docker.io" are Docker Hub.
//
// The error Is fs.ErrPermission when the registry does not accept them,
// fs.ErrInvalid when there are none. No error tells a secret.
func (s *Store) Login(ctx context.Context, registry string, c Credentials, opts *LoginOptions) (*LoggedIn, error) {
	in, err := s.login(ctx, registry, c, opts)
	return in, fault.New("image login", registry, err)
}

func (s *Store) login(ctx context.Context, registry string, c Credentials, opts *LoginOptions) (*LoggedIn, error) {
	if c.IdentityToken == "" && (c.Username == "" || c.Password == "") {
		return nil, fault.Invalid("no credentials: give a user name and a password, or an identity token")
	}
	host, err := registryHost(registry)
	if err != nil {
		return nil, err
	}
	if err := s.checkLogin(ctx, host, c); err != nil {
		return nil, err
	}
	file, err := configFile(opts)
	if err != nil {
		return nil, err
	}
	return file.store(ctx, configKey(host), c)
}

// Logout forgets the credentials for a registry, in config.json and in the
// helper that keeps them. The error Is fs.ErrNotExist when there are none.
func (s *Store) Logout(ctx context.Context, registry string, opts *LoginOptions) error {
	host, err := registryHost(registry)
	if err == nil {
		var file *dockerConfig
		if file, err = configFile(opts); err == nil {
			err = file.erase(ctx, configKey(host), host)
		}
	}
	return fault.New("image logout", registry, err)
}

// registryHost is a registry as references name it.
func registryHost(registry string) (string, error) {
	switch registry {
	case "", "index.docker.io", "registry-1.docker.io", hubKey:
		return defaultRegistry, nil
	}
	ref, err := parseRef(registry + "/x")
	if err != nil || ref.Registry != registry {
		return "", fault.Invalid("%q is no registry: give its host name, with :port if need be and without https://", registry)
	}
	return registry, nil
}

// hubKey is what Docker has always called its own registry.
const hubKey = "https://index.docker.io/v1/"

func configKey(host string) string {
	if host == defaultRegistry {
		return hubKey
	}
	return host
}

func configFile(opts *LoginOptions) (*dockerConfig, error) {
	dir := ""
	if opts != nil {
		dir = opts.Config
	}
	if dir == "" {
		dir = os.Getenv("DOCKER_CONFIG")
	}
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("no place for config.json: %w; set DOCKER_CONFIG", err)
		}
		dir = filepath.Join(home, ".docker")
	}
	return &dockerConfig{dir: dir}, nil
}

// fixed is the keychain of credentials that are being tried.
type fixed Credentials

func (f fixed) Credentials(context.Context, string) (Credentials, error) { return Credentials(f), nil }

// checkLogin asks for the registry's root, which needs credentials and no
// repository.
func (s *Store) checkLogin(ctx context.Context, host string, c Credentials) error {
	all, err := s.sources(Ref{Registry: host, Repository: "x"}, 0)
	if err != nil {
		return err
	}
	src := originOf(all)
	defer src.wire.close()
	src.keys, src.scopes, src.login = fixed(c), []string{}, true
	return persist(ctx, func() error {
		client, err := src.connect(ctx)
		if err != nil {
			return err
		}
		at := src.registry.Scheme() + "://" + src.registry.RegistryStr() + "/v2/"
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return src.explain(withoutQuery(err))
		}
		defer resp.Body.Close()
		if err := transport.CheckError(resp, http.StatusOK); err != nil {
			return src.explain(err)
		}
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		return err
	})
}
