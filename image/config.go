package image

import (
	"encoding/json"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Config is an image's configuration: what the OCI image specification has,
// with the fields that Docker adds to it.
type Config struct {
	ocispec.Image
	Config  RunConfig `json:"config"`
	Comment string    `json:"comment,omitempty"`
}

// RunConfig says how a container of the image runs.
type RunConfig struct {
	ocispec.ImageConfig
	Healthcheck *Healthcheck `json:"Healthcheck,omitempty"`
	OnBuild     []string     `json:"OnBuild,omitempty"`
	Shell       []string     `json:"Shell,omitempty"`
}

// Healthcheck is the HEALTHCHECK of an image. Zero durations and retries mean
// the engine's defaults.
type Healthcheck struct {
	// Test is {"NONE"}, {"CMD", args...} or {"CMD-SHELL", command}. Empty:
	// inherited.
	Test          []string      `json:"Test,omitempty"`
	Interval      time.Duration `json:"Interval,omitempty"` // in nanoseconds in JSON, as in Docker
	Timeout       time.Duration `json:"Timeout,omitempty"`
	StartPeriod   time.Duration `json:"StartPeriod,omitempty"`
	StartInterval time.Duration `json:"StartInterval,omitempty"`
	Retries       int           `json:"Retries,omitempty"`
}

func parseConfig(data []byte) (*Config, error) {
	c := new(Config)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, err
	}
	c.Image.Config = c.Config.ImageConfig // so that both views agree
	return c, nil
}
