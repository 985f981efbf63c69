package shim

import (
	"time"

	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/logs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// logWriter is where output goes besides the attached clients.
type logWriter interface {
	Write(stream logs.Stream, p []byte, t time.Time) error
	Flush(t time.Time) error
	Close() error
}

type noLog struct{}

func (noLog) Write(logs.Stream, []byte, time.Time) error { return nil }
func (noLog) Flush(time.Time) error                      { return nil }
func (noLog) Close() error                               { return nil }

func (s *shim) openLog() (logWriter, error) {
	if s.cfg.Log.Driver == "none" {
		return noLog{}, nil
	}
	return logs.Open(s.root.Path(s.c.ID, "log"), &logs.Options{MaxSize: s.cfg.Log.MaxSize, MaxFile: s.cfg.Log.MaxFile})
}

// logOutput writes to the log. A full disk loses lines, which the writer
// counts; the container goes on.
func (s *shim) logOutput(stream logs.Stream, p []byte, t time.Time) { s.log.Write(stream, p, t) }

func (s *shim) flushLog(t time.Time) { s.log.Flush(t) }

func discardOutput(logs.Stream, []byte, time.Time) {}

// allCaps is every capability that the shim itself has.
func (s *shim) allCaps() *specs.LinuxCapabilities {
	names := host.Capabilities()
	return &specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names}
}
