package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// HTTPFile is what a URL led to.
type HTTPFile struct {
	Digest   digest.Digest // sha256 of the content
	Filename string
	Modified *time.Time // nil if the server did not say
	Identity string     // stands for content, name, mode, owner and time
}

// HTTP asks whether the file has changed since it was kept, and downloads it
// if so. A file that has a checksum and is kept needs no network.
func (f *Fetcher) HTTP(ctx context.Context, o *op.HTTP) (*HTTPFile, error) {
	u, err := parseHTTP(o)
	if err != nil {
		return nil, err
	}
	d, err := f.use(ctx, "http", plain(u)+" "+hashed(o.URL))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	have := load(d.Path())
	if have == nil || o.Checksum == "" || !have.is(d.Path(), o.Checksum) {
		if have, err = f.request(ctx, o, u, d.Path(), have); err != nil {
			return nil, fmt.Errorf("%s: %w", plain(u), err)
		}
	}
	if o.Checksum != "" && !have.is(d.Path(), o.Checksum) {
		got, err := sum(blob(d.Path()), o.Checksum.Algorithm())
		if err != nil {
			return nil, fault.Opaque(err)
		}
		return nil, fmt.Errorf("%s: the content has the checksum %s, but the build wants %s", plain(u), got, o.Checksum)
	}
	file := have.file(o, u)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.files == nil {
		f.files = map[string]*HTTPFile{}
	}
	f.files[identify(o)] = file
	return file, nil
}

func parseHTTP(o *op.HTTP) (*url.URL, error) {
	u, err := url.Parse(o.URL)
	if err != nil { // its text has the whole URL
		return nil, fault.Invalid("the URL of a file is malformed")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fault.Invalid("%s: want a URL that begins with http:// or https://", plain(u))
	}
	if o.Filename != "" && !isName(o.Filename) {
		return nil, fault.Invalid("%s: file name %q: want a name without directory", plain(u), o.Filename)
	}
	if o.Checksum != "" {
		if err := o.Checksum.Validate(); err != nil {
			return nil, fault.Invalid("%s: checksum %q: %v", plain(u), o.Checksum, err)
		}
	}
	return u, nil
}

// isName tells whether s can be the name of a file in a directory.
func isName(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.ContainsAny(s, "/\x00")
}

// request gets the file unless the server says that have is still it.
func (f *Fetcher) request(ctx context.Context, o *op.HTTP, u *url.URL, dir string, have *kept) (*kept, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.URL, nil)
	if err != nil {
		return nil, fault.Invalid("no request can be made of this URL")
	}
	// The file is wanted as it is: Go would ask for gzip and unpack it.
	req.Header.Set("Accept-Encoding", "identity")
	for name, value := range o.Header {
		req.Header.Set(name, value)
	}
	if o.Secret != "" {
		value, ok, err := f.secret(ctx, o.Secret)
		if err != nil {
			return nil, fmt.Errorf("secret %q: %w", o.Secret, err)
		}
		if ok {
			req.Header.Set("Authorization", value)
		}
	}
	if have != nil && have.ETag != "" {
		req.Header.Set("If-None-Match", have.ETag)
	}
	resp, err := f.client().Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // its text has the URL with its query
			err = ue.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	etag := resp.Header.Get("ETag")
	switch {
	case resp.StatusCode == http.StatusNotModified && have != nil:
		return have, nil
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return nil, fmt.Errorf("the server answered %s", resp.Status)
	case have != nil && etag != "" && etag == have.ETag:
		return have, nil
	}
	k := &kept{ETag: etag, Disposition: disposition(resp.Header.Get("Content-Disposition"))}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		k.Modified = &t
	}
	return k, k.save(dir, resp.Body)
}

// client is f.Client that keeps to the host what was meant for it.
func (f *Fetcher) client() *http.Client {
	var c http.Client
	if f.Client != nil {
		c = *f.Client
	}
	c.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("stopped after 10 redirects")
		}
		// Whoever was asked in between could have chosen where this leads.
		first := via[0].URL
		for _, r := range append(via[1:len(via):len(via)], req) {
			if r.URL.Host != first.Host || r.URL.Scheme != first.Scheme && r.URL.Scheme != "https" {
				for _, name := range []string{"Authorization", "Cookie", "Referer"} {
					req.Header.Del(name)
				}
			}
		}
		return nil
	}
	return &c
}

// disposition is the name of a file in a Content-Disposition, if it has a
// usable one.
func disposition(value string) string {
	_, params, err := mime.ParseMediaType(value)
	if err != nil {
		return ""
	}
	name := path.Base(strings.ReplaceAll(params["filename"], `\`, "/"))
	if !isName(name) {
		return ""
	}
	return name
}

// file says what o makes of the content.
func (k *kept) file(o *op.HTTP, u *url.URL) *HTTPFile {
	file := &HTTPFile{Digest: k.Digest, Filename: o.Filename, Modified: k.Modified}
	// With a checksum all that matters is known without asking, the name too.
	if file.Filename == "" && o.Checksum == "" {
		file.Filename = k.Disposition
	}
	if base := path.Base(u.Path); file.Filename == "" && isName(base) {
		file.Filename = base
	}
	if file.Filename == "" {
		file.Filename = "download"
	}
	var modified int64
	if k.Modified != nil {
		modified = k.Modified.Unix()
	}
	file.Identity = hashed("http", k.Digest.String(), file.Filename, strconv.FormatUint(uint64(o.Mode), 8),
		strconv.Itoa(o.UID), strconv.Itoa(o.GID), strconv.FormatInt(modified, 10))
	return file
}

// PutHTTP makes the directory upper, mode 0755, and in it the file.
func (f *Fetcher) PutHTTP(ctx context.Context, o *op.HTTP, upper string) error {
	f.mu.Lock()
	file := f.files[identify(o)]
	f.mu.Unlock()
	if file == nil {
		var err error
		if file, err = f.HTTP(ctx, o); err != nil {
			return err
		}
	}
	u, err := parseHTTP(o)
	if err != nil {
		return err
	}
	d, err := f.use(ctx, "http", plain(u)+" "+hashed(o.URL))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := makeDir(upper); err != nil {
		return fault.Opaque(err)
	}
	to := filepath.Join(upper, file.Filename)
	got, err := copyFile(ctx, blob(d.Path()), to)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Opaque(err)
	}
	if got != file.Digest {
		// Another build has replaced the content, or it is damaged.
		forget(d.Path(), file.Digest)
		return fmt.Errorf("%s: the file has changed since the build asked for it; build again", plain(u))
	}
	return fault.Opaque(finish(to, o, file.Modified))
}

// finish gives the file what it has beside content.
func finish(name string, o *op.HTTP, modified *time.Time) error {
	mode := o.Mode
	if mode == 0 {
		mode = 0o600
	}
	if o.UID != 0 || o.GID != 0 || os.Geteuid() == 0 {
		if err := os.Lchown(name, o.UID, o.GID); err != nil {
			return err
		}
	}
	if err := os.Chmod(name, permissions(mode)); err != nil {
		return err
	}
	t := time.Unix(0, 0)
	if modified != nil {
		t = *modified
	}
	return os.Chtimes(name, t, t)
}

// makeDir makes a directory with mode 0755, whatever the umask is.
func makeDir(name string) error {
	if err := os.Mkdir(name, 0o755); err != nil {
		return err
	}
	return os.Chmod(name, 0o755)
}

// copyFile copies into a new file and says what digest the bytes had.
func copyFile(ctx context.Context, from, to string) (digest.Digest, error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	h := digest.SHA256.Digester()
	_, err = io.Copy(io.MultiWriter(out, h.Hash()), &reader{ctx, in})
	return h.Digest(), errors.Join(err, out.Close())
}

// reader ends with its context.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// decode reads JSON; anything else is as if there was none.
func decode(name string, v any) bool {
	data, err := os.ReadFile(name)
	return err == nil && json.Unmarshal(data, v) == nil
}
