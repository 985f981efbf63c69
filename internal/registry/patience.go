package registry

import (
	"io"
	"net/http"
	"time"
)

// patient gives a client time for each piece instead of for the whole: a
// large blob may take hours, a client that stalls holds nothing for ever.
type patient struct {
	http.ResponseWriter
	rc    *http.ResponseController
	body  io.Reader
	stall time.Duration
}

// piece is sent under one deadline: on a line of 20 kB/s it takes a minute.
const piece = 1 << 20

func newPatient(w http.ResponseWriter, r *http.Request, stall time.Duration) *patient {
	p := &patient{ResponseWriter: w, rc: http.NewResponseController(w), body: r.Body, stall: stall}
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct {
			io.Reader
			io.Closer
		}{readFunc(p.read), r.Body}
	}
	return p
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// end lets the server's own deadlines rule again.
func (p *patient) end() {
	p.rc.SetReadDeadline(time.Time{})
	p.rc.SetWriteDeadline(time.Time{})
}

func (p *patient) read(b []byte) (int, error) {
	p.rc.SetReadDeadline(time.Now().Add(p.stall)) // not supported: then without
	return p.body.Read(b)
}

func (p *patient) Write(b []byte) (int, error) {
	p.rc.SetWriteDeadline(time.Now().Add(p.stall))
	return p.ResponseWriter.Write(b)
}

// ReadFrom lets the kernel send files: net/http does so when it finds an
// *os.File within at most one io.LimitedReader.
func (p *patient) ReadFrom(r io.Reader) (total int64, err error) {
	limit, ok := r.(*io.LimitedReader)
	if !ok {
		return io.CopyBuffer(struct{ io.Writer }{p}, r, make([]byte, 128<<10))
	}
	for limit.N > 0 {
		p.rc.SetWriteDeadline(time.Now().Add(p.stall))
		n, err := io.CopyN(p.ResponseWriter, limit.R, min(limit.N, piece))
		limit.N -= n
		total += n
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Unwrap is for http.ResponseController.
func (p *patient) Unwrap() http.ResponseWriter { return p.ResponseWriter }
