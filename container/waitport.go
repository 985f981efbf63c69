package container

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/amphora-go/amphora/internal/fault"
)

// Listening holds once something in the container listens on the port:
// "5432/tcp", "53/udp" or "80". No connection is made. A container on the
// host's network, or another container's, is asked about that network.
func Listening(port string) Condition { return listening(port) }

type listening string

func (l listening) String() string { return "listening on " + string(l) }

func (l listening) wait(ctx context.Context, c *Container, why *reason) error {
	ports, err := expand([]string{string(l)})
	if err != nil {
		return err
	}
	if len(ports) != 1 || ports[0].Protocol == "sctp" {
		return fault.Invalid("port %q: give one, of tcp or udp", string(l))
	}
	return poll(ctx, why, func() error {
		i, err := c.Inspect(ctx)
		if err != nil {
			return err
		}
		if i.Pid == 0 {
			return ErrNotRunning
		}
		for _, family := range []string{"", "6"} {
			table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s%s", i.Pid, ports[0].Protocol, family))
			if err == nil && hasListener(table, ports[0].Protocol, ports[0].Container) {
				return nil
			}
		}
		return fmt.Errorf("nothing listens on %s", string(l))
	})
}

// hasListener looks for a listening socket in a table of /proc/net: lines of
// number, local address, remote address and state. A UDP socket that is bound
// is in state 07, a TCP socket that listens in 0A (net/tcp_states.h).
func hasListener(table []byte, protocol string, port uint16) bool {
	state := map[string]string{"tcp": "0A", "udp": "07"}[protocol]
	suffix := fmt.Sprintf(":%04X", port)
	for line := range bytes.Lines(table) {
		f := strings.Fields(string(line))
		if len(f) > 3 && f[3] == state && strings.HasSuffix(f[1], suffix) {
			return true
		}
	}
	return false
}

// HTTPCheck is a request that a container must answer.
type HTTPCheck struct {
	Port   string // "8080"
	Path   string // "/" if empty
	Method string // GET if empty
	Host   string // the request's host; "localhost" if empty
	Header http.Header
	// Status says whether the answer is the right one. Nil: 200 to 399.
	Status func(code int) bool
	// Body, if not nil, must hold of the first MiB of the answer as well.
	Body func(body []byte) bool
	// Timeout of one attempt; 0: 5 s.
	Timeout time.Duration
}

// HTTP holds once the container answers the request. The connection is made
// inside the container's network, to its loopback address and then to its
// addresses on networks: no port needs to be published.
func HTTP(check HTTPCheck) Condition { return httpCheck(check) }

type httpCheck HTTPCheck

func (h httpCheck) String() string {
	return fmt.Sprintf("answering HTTP on port %s%s", h.Port, h.path())
}

func (h httpCheck) path() string { return "/" + strings.TrimPrefix(h.Path, "/") }

func (h httpCheck) wait(ctx context.Context, c *Container, why *reason) error {
	if p, err := strconv.ParseUint(h.Port, 10, 16); err != nil || p == 0 {
		return fault.Invalid("HTTP port %q: give 1 to 65535", h.Port)
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.dial(ctx, c) }}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return poll(ctx, why, func() error { return h.ask(ctx, client) })
}

// dial tries the container's loopback address, then those on networks.
func (h httpCheck) dial(ctx context.Context, c *Container) (net.Conn, error) {
	conn, err := c.Dial(ctx, "tcp", net.JoinHostPort("127.0.0.1", h.Port))
	if err == nil {
		return conn, nil
	}
	i, ierr := c.Inspect(ctx)
	if ierr != nil {
		return nil, err
	}
	for _, a := range i.Networks {
		for _, p := range a.Addresses {
			if conn, derr := c.Dial(ctx, "tcp", net.JoinHostPort(p.Addr().String(), h.Port)); derr == nil {
				return conn, nil
			}
		}
	}
	return nil, err
}

func (h httpCheck) ask(ctx context.Context, client *http.Client) error {
	limit := h.Timeout
	if limit == 0 {
		limit = 5 * time.Second
	}
	ctx, done := context.WithTimeout(ctx, limit)
	defer done()
	req, err := http.NewRequestWithContext(ctx, h.Method, "http://localhost:"+h.Port+h.path(), nil)
	if err != nil {
		return &impossible{fault.Invalid("%w", err)}
	}
	req.Host = h.Host
	for k, v := range h.Header {
		req.Header[k] = v
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	ok := resp.StatusCode >= 200 && resp.StatusCode < 400
	if h.Status != nil {
		ok = h.Status(resp.StatusCode)
	}
	if !ok {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	if h.Body == nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && !h.Body(body) {
		err = fmt.Errorf("it answered %q", body[:min(len(body), 200)])
	}
	return err
}

// Logged holds once a line of the container's output, of this run or an earlier
// one, matches the regular expression.
func Logged(expr string) Condition { return logged(expr) }

type logged string

func (l logged) String() string { return fmt.Sprintf("writing a line like %q", string(l)) }

func (l logged) wait(ctx context.Context, c *Container, _ *reason) error {
	re, err := regexp.Compile(string(l))
	if err != nil {
		return fault.Invalid("%w", err)
	}
	for e, err := range c.Logs(ctx, &LogOptions{Follow: true}) {
		if err == nil && re.Match(bytes.TrimRight(e.Line, "\r\n")) {
			return nil
		}
		if err != nil && err != ErrLogLost {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fault.Kind(ErrNotRunning, "its output has ended without such a line")
}
