package image

import (
	"context"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Credentials are what a registry wants to know. The zero value is an
// anonymous user.
type Credentials struct {
	Username, Password string
	// IdentityToken is exchanged for access tokens, in place of a password.
	IdentityToken string
	// RegistryToken is sent to the registry as it is, as a bearer token.
	RegistryToken string
}

// Keychain finds credentials. It must be safe for concurrent use.
type Keychain interface {
	// Credentials returns those for a registry host ("docker.io",
	// "localhost:5000"); zero Credentials when there are none.
	Credentials(ctx context.Context, registry string) (Credentials, error)
}

// DockerKeychain returns the keychain of Docker's command line: config.json
// in $DOCKER_CONFIG or ~/.docker, with the credential helpers it names, or
// else Podman's auth.json.
func DockerKeychain() Keychain { return dockerKeychain{} }

type dockerKeychain struct{}

func (dockerKeychain) Credentials(ctx context.Context, registry string) (Credentials, error) {
	reg, err := name.NewRegistry(registry)
	if err != nil {
		return Credentials{}, err
	}
	// A helper program knows no context: it must not hold up a call that ended.
	type result struct {
		c   Credentials
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, err := dockerCredentials(ctx, reg)
		done <- result{c, err}
	}()
	select {
	case r := <-done:
		return r.c, r.err
	case <-ctx.Done():
		return Credentials{}, ctx.Err()
	}
}

func dockerCredentials(ctx context.Context, reg name.Registry) (Credentials, error) {
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, reg)
	if err != nil {
		return Credentials{}, err
	}
	cfg, err := authn.Authorization(ctx, auth)
	if err != nil {
		return Credentials{}, err
	}
	return Credentials{cfg.Username, cfg.Password, cfg.IdentityToken, cfg.RegistryToken}, nil
}

func (c Credentials) authenticator() authn.Authenticator {
	if c == (Credentials{}) {
		return authn.Anonymous
	}
	return authn.FromConfig(authn.AuthConfig{Username: c.Username, Password: c.Password,
		IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken})
}
