package build

import (
	"context"
	"io"
	"io/fs"
	"path"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// reference is a tree that the frontend may look into. The caller's own
// directories are read in place: a Dockerfile and a .dockerignore need no
// engine.
type reference struct {
	g    *gateway
	tree op.Input
	def  *pb.Definition
}

var _ client.Reference = (*reference)(nil)

func (r *reference) ToState() (llb.State, error) {
	o, err := llb.NewDefinitionOp(r.def)
	if err != nil {
		return llb.State{}, err
	}
	return llb.NewState(o), nil
}

func (r *reference) Evaluate(ctx context.Context) error {
	if r.inPlace() != "" {
		return nil
	}
	return r.g.engine.Evaluate(ctx, r.tree)
}

// inPlace is the name of the caller's directory that the tree is, if nothing of
// it is left out by patterns.
func (r *reference) inPlace() string {
	if r.tree.Vertex == nil {
		return ""
	}
	l, ok := r.tree.Vertex.Op.(*op.Local)
	if !ok || len(l.Include)+len(l.Exclude) > 0 {
		return ""
	}
	return l.Name
}

// files opens the directory that is read in place; nil if there is none.
func (r *reference) files(ctx context.Context) (fs.FS, error) {
	name := r.inPlace()
	if name == "" {
		return nil, nil
	}
	return r.g.session.files(ctx, name)
}

func (r *reference) ReadFile(ctx context.Context, req client.ReadRequest) ([]byte, error) {
	var from, length int64
	if req.Range != nil {
		from, length = int64(req.Range.Offset), int64(req.Range.Length)
	}
	end := int64(0)
	if length > 0 {
		end = from + length
	}
	data, err := r.read(ctx, inTree(req.Filename), end)
	if err != nil {
		return nil, err
	}
	return data[min(from, int64(len(data))):], nil
}

func (r *reference) read(ctx context.Context, name string, max int64) ([]byte, error) {
	fsys, err := r.files(ctx)
	if err != nil {
		return nil, err
	}
	if fsys == nil {
		return r.g.engine.ReadFile(ctx, r.tree, name, max)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		if err == nil {
			err = fault.Invalid("%s is not a regular file", name)
		}
		return nil, err
	}
	if max > 0 {
		return io.ReadAll(io.LimitReader(f, max))
	}
	return io.ReadAll(f)
}

func (r *reference) StatFile(ctx context.Context, req client.StatRequest) (*fstypes.Stat, error) {
	name := inTree(req.Path)
	fsys, err := r.files(ctx)
	if err != nil {
		return nil, err
	}
	var st fs.FileInfo
	if fsys != nil {
		st, err = fs.Stat(fsys, name)
	} else {
		st, err = r.g.engine.Stat(ctx, r.tree, name)
	}
	if err != nil {
		return nil, err
	}
	return stat(st), nil
}

func (r *reference) ReadDir(ctx context.Context, req client.ReadDirRequest) ([]*fstypes.Stat, error) {
	name := inTree(req.Path)
	fsys, err := r.files(ctx)
	if err != nil {
		return nil, err
	}
	var entries []fs.DirEntry
	if fsys != nil {
		entries, err = fs.ReadDir(fsys, name)
	} else {
		entries, err = r.g.engine.ReadDir(ctx, r.tree, name)
	}
	if err != nil {
		return nil, err
	}
	var all []*fstypes.Stat
	for _, e := range entries {
		if req.IncludePattern != "" {
			if ok, err := path.Match(req.IncludePattern, e.Name()); err != nil || !ok {
				continue
			}
		}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		all = append(all, stat(info))
	}
	return all, nil
}

func stat(i fs.FileInfo) *fstypes.Stat {
	return &fstypes.Stat{Path: i.Name(), Mode: uint32(i.Mode()), Size: i.Size(), ModTime: i.ModTime().UnixNano()}
}

// inTree is a path as io/fs wants it: relative, clean, never above the top.
func inTree(p string) string {
	p = path.Join("/", p)[1:]
	if p == "" {
		return "."
	}
	return p
}
