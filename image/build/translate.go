package build

import (
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// graph turns BuildKit's definitions into vertices. What occurs in several
// definitions of one build is one vertex, so that it is worked off once. Safe
// for concurrent use.
type graph struct {
	allowed allowed
	host    ocispec.Platform

	mu    sync.Mutex            // guards what follows
	known map[string]*op.Vertex // by digest; one output of a file operation by digest#output
	texts map[string][]byte     // of the files that places name
}

func newGraph(a allowed, host ocispec.Platform) *graph {
	return &graph{allowed: a, host: host, known: map[string]*op.Vertex{}, texts: map[string][]byte{}}
}

// text is the content of a file that places name; nil if it is not known.
func (g *graph) text(file string) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.texts[file]
}

// keepText remembers a file that places may name.
func (g *graph) keepText(file string, data []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.texts[file] = data
}

// add returns what a definition is about: nothing but Input{} for an empty one.
func (g *graph) add(def *pb.Definition) (op.Input, error) {
	if def == nil || len(def.Def) == 0 {
		return op.Input{}, nil
	}
	t := &translation{graph: g, def: def, ops: make(map[string]*pb.Op, len(def.Def))}
	var last *pb.Op
	for _, raw := range def.Def {
		o := &pb.Op{}
		if err := o.Unmarshal(raw); err != nil {
			return op.Input{}, fault.Invalid("malformed operation: %w", err)
		}
		t.ops[string(digest.FromBytes(raw))], last = o, o
	}
	if last.Op != nil || len(last.Inputs) != 1 {
		return op.Input{}, fault.Invalid("malformed definition: its last entry names no result")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, info := range def.Source.GetInfos() {
		if info != nil {
			g.texts[info.Filename] = info.Data
		}
	}
	return t.input(last.Inputs[0])
}

// translation is one definition on its way into a graph.
type translation struct {
	*graph
	def *pb.Definition
	ops map[string]*pb.Op
}

func (t *translation) input(in *pb.Input) (op.Input, error) {
	o := t.ops[in.Digest]
	if o == nil || in.Index < 0 {
		return op.Input{}, fault.Invalid("malformed definition: output %d of %s is missing", in.Index, in.Digest)
	}
	if f := o.GetFile(); f != nil {
		v, err := t.file(in.Digest, o, f, in.Index)
		return op.Input{Vertex: v}, err
	}
	if v := t.known[in.Digest]; v != nil {
		return op.Input{Vertex: v, Index: int(in.Index)}, nil
	}
	v, err := t.vertex(in.Digest, o)
	if err != nil {
		return op.Input{}, err
	}
	t.known[in.Digest] = v
	return op.Input{Vertex: v, Index: int(in.Index)}, nil
}

// vertex translates anything but a file operation.
func (t *translation) vertex(d string, o *pb.Op) (v *op.Vertex, err error) {
	v = t.bare(d, o)
	if v.Inputs, err = t.inputs(o); err != nil {
		return nil, err
	}
	switch k := o.Op.(type) {
	case *pb.Op_Source:
		v.Op, err = t.source(k.Source)
		v.Platform = t.platform(o.Platform)
	case *pb.Op_Exec:
		v.Op, err = t.exec(k.Exec, len(v.Inputs))
		v.Platform = t.platform(o.Platform)
		v.Limits = limits(t.def.Metadata[d].GetLinuxResources())
	case *pb.Op_Merge:
		v.Op, err = t.merge(k.Merge, v)
	case *pb.Op_Diff:
		v.Op, err = diff(k.Diff, len(v.Inputs))
	case *pb.Op_Build:
		err = unsupported("a nested build (BuildOp)")
	case *pb.Op_Passthrough:
		err = unsupported("a PassthroughOp")
	default:
		err = unsupported("an operation of type %T", o.Op)
	}
	if err != nil {
		return nil, t.located(v, err)
	}
	return v, nil
}

func (t *translation) inputs(o *pb.Op) ([]op.Input, error) {
	var all []op.Input
	for _, in := range o.Inputs {
		i, err := t.input(in)
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// bare has all of a vertex but its operation, inputs and platform.
func (t *translation) bare(d string, o *pb.Op) *op.Vertex {
	meta := t.def.Metadata[d]
	v := &op.Vertex{Digest: digest.Digest(d), Name: meta.GetDescription()["llb.customname"], NoCache: meta.GetIgnoreCache()}
	if v.Name == "" {
		v.Name = plainName(o)
	}
	v.Internal = strings.HasPrefix(v.Name, "[internal]")
	v.Places = t.places(d)
	return v
}

// plainName is for operations that the frontend gave no name.
func plainName(o *pb.Op) string {
	switch k := o.Op.(type) {
	case *pb.Op_Source:
		return k.Source.GetIdentifier()
	case *pb.Op_Exec:
		return strings.Join(k.Exec.GetMeta().GetArgs(), " ")
	case *pb.Op_File:
		return "files"
	case *pb.Op_Merge:
		return "merge"
	case *pb.Op_Diff:
		return "diff"
	}
	return "unknown"
}

// places joins the ranges, which the frontend gives line by line.
func (t *translation) places(d string) []op.Place {
	var all []op.Place
	for _, loc := range t.def.Source.GetLocations()[d].GetLocations() {
		infos := t.def.Source.GetInfos()
		if loc == nil || int(loc.SourceIndex) < 0 || int(loc.SourceIndex) >= len(infos) {
			continue
		}
		file := infos[loc.SourceIndex].GetFilename()
		for _, r := range loc.Ranges {
			first := int(r.GetStart().GetLine())
			p := op.Place{File: file, First: first, Last: max(first, int(r.GetEnd().GetLine()))}
			if first > 0 {
				all = append(all, p)
			}
		}
	}
	return joined(all)
}

// joined makes one place of those that overlap or follow each other.
func joined(all []op.Place) []op.Place {
	slices.SortStableFunc(all, func(a, b op.Place) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		return a.First - b.First
	})
	var out []op.Place
	for _, p := range all {
		if n := len(out); n > 0 && out[n-1].File == p.File && p.First <= out[n-1].Last+1 {
			out[n-1].Last = max(out[n-1].Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}

func (t *translation) platform(p *pb.Platform) ocispec.Platform {
	if p == nil {
		return t.host
	}
	return platforms.Normalize(p.Spec())
}

// merge puts the vertex's inputs in the order in which they are laid over each
// other.
func (t *translation) merge(m *pb.MergeOp, v *op.Vertex) (op.Op, error) {
	var ordered []op.Input
	for _, in := range m.GetInputs() {
		switch i := in.GetInput(); {
		case i == int64(pb.Empty):
		case i < 0 || int(i) >= len(v.Inputs):
			return nil, fault.Invalid("malformed merge: it has no input %d", i)
		default:
			ordered = append(ordered, v.Inputs[i])
		}
	}
	v.Inputs = ordered
	return &op.Merge{}, nil
}

func diff(d *pb.DiffOp, inputs int) (op.Op, error) {
	lower, upper := op.Scratch, op.Scratch
	if in := d.GetLower(); in != nil {
		lower = int(in.Input)
	}
	if in := d.GetUpper(); in != nil {
		upper = int(in.Input)
	}
	if min(lower, upper) < op.Scratch || max(lower, upper) >= inputs {
		return nil, fault.Invalid("malformed diff: it has no inputs %d and %d", lower, upper)
	}
	return &op.Diff{Lower: lower, Upper: upper}, nil
}

func limits(r *pb.LinuxResources) *op.Limits {
	if r == nil {
		return nil
	}
	return &op.Limits{
		Memory: r.Memory, MemorySwap: r.MemorySwap, CPUShares: r.CpuShares, CPUPeriod: r.CpuPeriod,
		CPUQuota: r.CpuQuota, CPUs: r.CpusetCpus, Mems: r.CpusetMems,
	}
}

// located says where in a Dockerfile the trouble is.
func (t *translation) located(v *op.Vertex, err error) error {
	return &stepError{vertex: v, err: err}
}

func unsupported(format string, args ...any) error {
	return fault.Unsupported(format+" cannot be built here", args...)
}
