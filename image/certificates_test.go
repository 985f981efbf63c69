package image

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// secure serves a registry by TLS, which asks for a client's certificate.
func secure(t *testing.T, r *testRegistry, clients *x509.CertPool) *httptest.Server {
	t.Helper()
	srv := httptest.NewUnstartedServer(r)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{}
	if clients != nil {
		srv.TLS.ClientAuth, srv.TLS.ClientCAs = tls.RequireAndVerifyClientCert, clients
	}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// clientCertificate makes a certificate of its own authority.
func clientCertificate(t *testing.T) (cert, key []byte, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "puller"}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	parsed, _ := x509.ParseCertificate(der)
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	kder, _ := x509.MarshalECPrivateKey(k)
	return pemOf("CERTIFICATE", der), pemOf("EC PRIVATE KEY", kder), pool
}

// Loopback is lax about certificates; only what is asked of the client shows
// there whether certs.d was read. The authority is tested on the transport.
func TestCertificates(t *testing.T) {
	r := newRegistry(t)
	r.push("app", "v1", "", tarOf(t, file{name: "f", body: "x"}))
	cert, key, pool := clientCertificate(t)
	srv := secure(t, r, pool)
	host := strings.TrimPrefix(srv.URL, "https://")
	certs := t.TempDir()
	dir := filepath.Join(certs, host)
	write := func(name string, data []byte) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s := openTest(t, &Options{Certificates: []string{certs}})
	if _, err := s.Pull(t.Context(), host+"/app:v1", nil); err == nil {
		t.Fatal("pulled without a certificate")
	}
	write("client.cert", cert)
	if _, err := s.Pull(t.Context(), host+"/app:v1", nil); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("without a key: %v", err)
	}
	write("client.key", key)
	write("ca.crt", pemOf("CERTIFICATE", srv.Certificate().Raw))
	pullOne(t, s, host+"/app:v1", nil)
	// A host that is not lax: the authority is all that makes it trusted.
	for _, known := range []bool{false, true} {
		c := &certificates{}
		if known {
			c.dirs = []string{certs}
		}
		w := newWire(host, "https", "", &wireOptions{lax: func(string) bool { return false }, certs: c})
		resp, err := w.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/v2/", nil))
		if known != (err == nil) {
			t.Errorf("authority known %v: %v", known, err)
		}
		if err == nil {
			resp.Body.Close()
		}
		w.close()
	}
	write("ca.crt", []byte("nothing"))
	if _, err := s.Pull(t.Context(), host+"/app:v1", nil); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("a broken authority: %v", err)
	}
	os.Remove(filepath.Join(dir, "ca.crt"))
	os.Remove(filepath.Join(dir, "client.cert"))
	if _, err := s.Pull(t.Context(), host+"/app:v1", nil); !errors.Is(err, fs.ErrInvalid) || !strings.Contains(err.Error(), "client.key") {
		t.Errorf("a key alone: %v", err)
	}
}
