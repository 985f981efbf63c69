package image

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/amphora-go/amphora/internal/fault"
)

// certificates are directories in the layout of Docker's certs.d.
type certificates struct{ dirs []string }

func newCertificates(dirs []string) (*certificates, error) {
	if dirs != nil {
		return &certificates{dirs}, nil
	}
	c := &certificates{}
	if home, err := os.UserHomeDir(); err == nil {
		c.dirs = append(c.dirs, filepath.Join(home, ".docker", "certs.d"))
	}
	if runtime.GOOS != "windows" {
		c.dirs = append(c.dirs, "/etc/docker/certs.d")
	}
	return c, nil
}

// config is what is known for a host; nil for nothing. As in Docker the first
// directory that has the host counts.
func (c *certificates) config(host string) (*tls.Config, error) {
	if strings.ContainsAny(host, `/\`) || strings.HasPrefix(host, ".") {
		return nil, nil
	}
	names := []string{host}
	if bare, ok := strings.CutSuffix(host, ":443"); ok {
		names = append(names, bare)
	}
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		names = append(names, defaultRegistry)
	}
	for _, dir := range c.dirs {
		for _, name := range names {
			if runtime.GOOS == "windows" {
				name = strings.ReplaceAll(name, ":", "")
			}
			config, err := readCertificates(filepath.Join(dir, name))
			if err != nil || config != nil {
				return config, err
			}
		}
	}
	return nil, nil
}

// readCertificates reads one host's directory.
func readCertificates(dir string) (*tls.Config, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Opaque(err)
	}
	config := &tls.Config{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".crt":
			if config.RootCAs == nil {
				if config.RootCAs, err = x509.SystemCertPool(); err != nil {
					config.RootCAs = x509.NewCertPool()
				}
			}
			pem, err := os.ReadFile(path)
			if err != nil {
				return nil, fault.Opaque(err)
			}
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fault.Invalid("%s holds no certificate in PEM", path)
			}
		case ".cert":
			key := strings.TrimSuffix(path, ".cert") + ".key"
			pair, err := tls.LoadX509KeyPair(path, key)
			if err != nil { // its text names files, and no part of a key
				return nil, fault.Invalid("client certificate %s with its key %s cannot be used: %w", path, key, fault.Opaque(err))
			}
			config.Certificates = append(config.Certificates, pair)
		case ".key":
			if _, err := os.Stat(strings.TrimSuffix(path, ".key") + ".cert"); err != nil {
				return nil, fault.Invalid("%s has no certificate beside it: names of certificates of clients end in .cert, those of authorities in .crt", path)
			}
		}
	}
	return config, nil
}
