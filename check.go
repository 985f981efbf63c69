package amphora

import (
	"context"
	"fmt"

	"github.com/amphora-go/amphora/internal/host"
	"github.com/amphora-go/amphora/internal/networks"
)

// Finding is something that this machine, or this program's set-up, lacks.
type Finding struct {
	Name    string `json:"name"`           // what was looked for
	Problem string `json:"problem"`        // what is wrong with it
	Cure    string `json:"cure,omitempty"` // what to do
	Needed  bool   `json:"needed"`         // containers cannot run without it
}

func (f Finding) String() string {
	kind := "note"
	if f.Needed {
		kind = "needed"
	}
	s := fmt.Sprintf("%s: %s: %s", kind, f.Name, f.Problem)
	if f.Cure != "" {
		s += " (cure: " + f.Cure + ")"
	}
	return s
}

// Check probes the machine and lists what it lacks, each with its cure. No
// findings: everything works. It changes nothing that stays. Of networks it
// tells what the kernel lacks, whose packet filter drops their traffic, settings
// of the host that were changed for them, and ports that nothing reserves.
func (e *Engine) Check(ctx context.Context) ([]Finding, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var out []Finding
	for _, f := range host.Check(e.root.Dir, e.opts.CgroupParent) {
		out = append(out, Finding(f))
	}
	for _, f := range networks.Open(e.root).Check(ctx) {
		out = append(out, Finding(f))
	}
	if where := e.nested(); where != "" {
		out = append(out, Finding{Name: "directories", Problem: where + " lies below the executable's directory: each start copies the executable",
			Cure: "keep Root and State elsewhere, or move the executable"})
	}
	return out, nil
}
