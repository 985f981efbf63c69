package image

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
)

// dockerConfig is a config.json. Only what a login is about is understood; the
// rest is kept word for word.
type dockerConfig struct {
	dir    string
	fields map[string]json.RawMessage
}

// path is the file itself: a link to where somebody keeps it stays.
func (d *dockerConfig) path() string {
	path := filepath.Join(d.dir, "config.json")
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

func (d *dockerConfig) read() error {
	d.fields = map[string]json.RawMessage{}
	data, err := os.ReadFile(d.path())
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	if err != nil {
		return fault.Opaque(err)
	}
	return d.parse(data)
}

// parse does not wrap what encoding/json says: it may quote the file.
func (d *dockerConfig) parse(data []byte) error {
	d.fields = map[string]json.RawMessage{}
	if json.Unmarshal(data, &d.fields) != nil || d.fields == nil {
		return fault.Opaque(fmt.Errorf("%s is no JSON object; mend it or remove it", d.path()))
	}
	return nil
}

// section reads one field, nil if it is missing.
func section[T any](d *dockerConfig, name string) (map[string]T, error) {
	m := map[string]T{}
	raw, ok := d.fields[name]
	if !ok {
		return m, nil
	}
	if json.Unmarshal(raw, &m) != nil {
		return nil, fault.Opaque(fmt.Errorf("%s: %q is damaged; mend it or remove it", d.path(), name))
	}
	if m == nil {
		m = map[string]T{}
	}
	return m, nil
}

// helper is the name of the program that keeps the credentials of a registry.
func (d *dockerConfig) helper(key string) (string, error) {
	helpers, err := section[string](d, "credHelpers")
	if err != nil {
		return "", err
	}
	if h := helpers[key]; h != "" {
		return h, nil
	}
	var store string
	if raw, ok := d.fields["credsStore"]; ok && json.Unmarshal(raw, &store) != nil {
		return "", fault.Opaque(fmt.Errorf("%s: credsStore is no text; mend it or remove it", d.path()))
	}
	return store, nil
}

// update changes the file while nobody else of us does.
func (d *dockerConfig) update(ctx context.Context, change func() error) error {
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fault.Opaque(err)
	}
	lock, err := flock.Acquire(ctx, d.path()+".lock", flock.Exclusive)
	if err != nil {
		return fault.Opaque(err)
	}
	defer lock.Release()
	defer os.Remove(d.path() + ".lock") // before it is released: flock checks
	if err := d.read(); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(d.fields, "", "\t") // as Docker writes it
	if err != nil {
		return err
	}
	return fault.Opaque(atomicfile.Write(d.path(), append(data, '\n'), 0o600, true))
}

func (d *dockerConfig) store(ctx context.Context, key string, c Credentials) (*LoggedIn, error) {
	in := &LoggedIn{File: d.path()}
	return in, d.update(ctx, func() (err error) {
		if in.Helper, err = d.helper(key); err != nil {
			return err
		}
		// Before the helper is asked to keep anything: this may fail.
		auths, err := section[json.RawMessage](d, "auths")
		if err != nil {
			return err
		}
		entry := map[string]string{}
		if in.Helper == "" {
			if c.IdentityToken != "" {
				entry["identitytoken"] = c.IdentityToken
			}
			entry["auth"] = base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
		} else if err := helperStore(ctx, in.Helper, key, c); err != nil {
			return err
		}
		// With a helper the empty entry says that there is something to ask for.
		if auths[key], err = json.Marshal(entry); err != nil {
			return err
		}
		d.fields["auths"], err = json.Marshal(auths)
		return err
	})
}

// erase removes the entries that Docker may have made for a registry.
func (d *dockerConfig) erase(ctx context.Context, key, host string) error {
	return d.update(ctx, func() error {
		auths, err := section[json.RawMessage](d, "auths")
		if err != nil {
			return err
		}
		found := false
		for _, k := range []string{key, host, "https://" + host, "http://" + host, "https://" + host + "/v1/", "https://" + host + "/v2/"} {
			_, ok := auths[k]
			found = found || ok
			delete(auths, k)
		}
		helper, err := d.helper(key)
		if err != nil {
			return err
		}
		if helper != "" {
			_, err := runHelper(ctx, helper, "erase", key)
			if err != nil && !strings.Contains(err.Error(), helperHasNone) {
				return err
			}
			found = found || err == nil
		}
		if !found {
			return fault.NotExist("not logged in to %s", host)
		}
		d.fields["auths"], err = json.Marshal(auths)
		return err
	})
}

// helperHasNone is what helpers say of a registry whose credentials they do
// not have: the protocol's own words.
const helperHasNone = "credentials not found in native keychain"

func helperStore(ctx context.Context, helper, key string, c Credentials) error {
	entry := map[string]string{"ServerURL": key, "Username": c.Username, "Secret": c.Password}
	if c.IdentityToken != "" {
		entry["Username"], entry["Secret"] = "<token>", c.IdentityToken // the helpers' protocol
	}
	input, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	_, err = runHelper(ctx, helper, "store", string(input))
	return err
}

// runHelper speaks the protocol of docker-credential-helpers. What the program
// says on failure is passed on only if it does not repeat a secret.
func runHelper(ctx context.Context, helper, action, input string) (string, error) {
	if strings.ContainsAny(helper, `/\`) {
		return "", fault.Invalid("credential helper %q is no name of a program", helper)
	}
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, action)
	cmd.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		said := ""
		if action != "store" {
			said = ": " + strings.TrimSpace(out.String())
		}
		return "", fault.Opaque(fmt.Errorf("credential helper docker-credential-%s: %s: %w%s", helper, action, err, said))
	}
	return out.String(), nil
}
