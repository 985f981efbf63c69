package build

import (
	"fmt"
	"slices"

	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/amphora-go/amphora/internal/build/op"
	"github.com/amphora-go/amphora/internal/fault"
)

// fileChain is a file operation on its way to vertices. Its actions are a
// graph: each continues an input or an earlier action, and may read from a
// second one. The actions that lead to one output one after the other are an
// op.File; an action that is read from the side becomes a vertex of its own.
type fileChain struct {
	t       *translation
	digest  string
	op      *pb.Op
	actions []*pb.FileAction
}

func (t *translation) file(d string, o *pb.Op, f *pb.FileOp, output int64) (*op.Vertex, error) {
	c := &fileChain{t: t, digest: d, op: o, actions: f.GetActions()}
	last, outputs := -1, 0
	for i, a := range c.actions {
		// As the frontend writes them down, actions refer to earlier ones only:
		// so there are no loops.
		if here := int64(len(o.Inputs) + i); a == nil || a.Input >= here || a.SecondaryInput >= here {
			return nil, fault.Invalid("malformed file operation: action %d reads from a later one", i)
		}
		if a.Output >= 0 {
			outputs++
		}
		if a.Output == output {
			last = i
		}
	}
	if last < 0 {
		return nil, fault.Invalid("malformed file operation: it has no output %d", output)
	}
	name := d
	if outputs > 1 {
		name = c.name(last)
	}
	return c.vertex(name, last)
}

// name is what an action's tree is called when it is not that of the operation.
func (c *fileChain) name(action int) string { return fmt.Sprintf("%s#%d", c.digest, action) }

// vertex is the tree after an action.
func (c *fileChain) vertex(name string, last int) (*op.Vertex, error) {
	if v := c.t.known[name]; v != nil {
		return v, nil
	}
	v := c.t.bare(c.digest, c.op)
	if name != c.digest {
		v.Digest = digest.FromString(name)
	}
	f, err := c.chain(v, last)
	if err != nil {
		return nil, c.t.located(v, err)
	}
	v.Op = f
	c.t.known[name] = v
	return v, nil
}

// chain collects the actions that lead to the last one.
func (c *fileChain) chain(v *op.Vertex, last int) (_ *op.File, err error) {
	n := len(c.op.Inputs)
	var order []*pb.FileAction
	base := n + last
	for base >= n {
		a := c.actions[base-n]
		order = append(order, a)
		base = int(a.Input)
	}
	slices.Reverse(order)
	f := &op.File{Base: op.Scratch}
	if base >= 0 {
		if f.Base, err = c.input(v, int64(base), last); err != nil {
			return nil, err
		}
	}
	for i, a := range order {
		o, err := c.action(v, a, last)
		if err != nil {
			return nil, fmt.Errorf("action %d: %w", i, err)
		}
		f.Actions = append(f.Actions, o)
	}
	return f, nil
}

// input is the vertex's input for an input of the operation, or for the tree of
// an action before the one that limits.
func (c *fileChain) input(v *op.Vertex, index int64, limit int) (int, error) {
	n := int64(len(c.op.Inputs))
	if index < 0 || index >= n+int64(limit) {
		return 0, fault.Invalid("malformed file operation: it has no input %d", index)
	}
	var in op.Input
	var err error
	if index < n {
		in, err = c.t.input(c.op.Inputs[index])
	} else {
		i := int(index - n)
		in.Vertex, err = c.vertex(c.name(i), i)
	}
	if err != nil {
		return 0, err
	}
	return add(v, in), nil
}

// add finds or appends an input.
func add(v *op.Vertex, in op.Input) int {
	if i := slices.Index(v.Inputs, in); i >= 0 {
		return i
	}
	v.Inputs = append(v.Inputs, in)
	return len(v.Inputs) - 1
}

// empty is the tree without anything, for those who copy from scratch.
func (t *translation) empty() op.Input {
	const name = "scratch"
	if t.known[name] == nil {
		t.known[name] = &op.Vertex{Digest: digest.FromString(name), Name: name, Internal: true, Op: &op.File{Base: op.Scratch}}
	}
	return op.Input{Vertex: t.known[name]}
}

func (c *fileChain) action(v *op.Vertex, a *pb.FileAction, limit int) (o op.Action, err error) {
	switch k := a.GetAction().(type) {
	case *pb.FileAction_Copy:
		o.Copy, err = c.copy(v, a, k.Copy, limit)
	case *pb.FileAction_Mkdir:
		d := k.Mkdir
		o.Mkdir = &op.Mkdir{Path: d.GetPath(), Mode: int(d.GetMode()), Parents: d.GetMakeParents(), Time: nanoseconds(d.GetTimestamp())}
		o.Mkdir.Owner, err = c.owner(v, a, d.GetOwner(), limit)
	case *pb.FileAction_Mkfile:
		f := k.Mkfile
		o.Mkfile = &op.Mkfile{Path: f.GetPath(), Mode: int(f.GetMode()), Data: f.GetData(), Time: nanoseconds(f.GetTimestamp())}
		o.Mkfile.Owner, err = c.owner(v, a, f.GetOwner(), limit)
	case *pb.FileAction_Rm:
		o.Remove = &op.Remove{Path: k.Rm.GetPath(), AllowMissing: k.Rm.GetAllowNotFound(), Wildcards: k.Rm.GetAllowWildcard()}
	case *pb.FileAction_Symlink:
		s := k.Symlink
		o.Symlink = &op.Symlink{Target: s.GetOldpath(), Path: s.GetNewpath(), Time: nanoseconds(s.GetTimestamp())}
		o.Symlink.Owner, err = c.owner(v, a, s.GetOwner(), limit)
	default:
		err = unsupported("a file action of type %T", k)
	}
	return o, err
}

func (c *fileChain) copy(v *op.Vertex, a *pb.FileAction, p *pb.FileActionCopy, limit int) (*op.Copy, error) {
	o := &op.Copy{
		From: op.Scratch, Source: p.GetSrc(), Target: p.GetDest(), ModeText: p.GetModeStr(), FollowLinks: p.GetFollowSymlink(),
		Contents: p.GetDirCopyContents(), Unpack: p.GetAttemptUnpackDockerCompatibility(), MakeTarget: p.GetCreateDestPath(),
		Wildcards: p.GetAllowWildcard(), AllowNoMatch: p.GetAllowEmptyWildcard(), Time: nanoseconds(p.GetTimestamp()),
		Include: p.GetIncludePatterns(), Exclude: p.GetExcludePatterns(), Required: p.GetRequiredPaths(),
		Replace: p.GetAlwaysReplaceExistingDestPaths(),
	}
	if m := p.GetMode(); m >= 0 {
		o.Mode, o.HasMode = int(m), true
	}
	var err error
	switch from := a.GetSecondaryInput(); {
	case from < 0:
		o.From = add(v, c.t.empty())
	case from == a.GetInput() && from >= int64(len(c.op.Inputs)):
		// The tree itself, as the action before left it.
	default:
		if o.From, err = c.input(v, from, limit); err != nil {
			return nil, err
		}
	}
	o.Owner, err = c.owner(v, a, p.GetOwner(), limit)
	return o, err
}

func (c *fileChain) owner(v *op.Vertex, a *pb.FileAction, o *pb.ChownOpt, limit int) (*op.Owner, error) {
	if o == nil {
		return nil, nil
	}
	user, err := c.id(v, a, o.GetUser(), limit)
	if err != nil {
		return nil, err
	}
	group, err := c.id(v, a, o.GetGroup(), limit)
	if err != nil {
		return nil, err
	}
	return &op.Owner{User: user, Group: group}, nil
}

func (c *fileChain) id(v *op.Vertex, a *pb.FileAction, u *pb.UserOpt, limit int) (*op.ID, error) {
	switch k := u.GetUser().(type) {
	case nil:
		return nil, nil
	case *pb.UserOpt_ByID:
		return &op.ID{Number: k.ByID}, nil
	case *pb.UserOpt_ByName:
		id := &op.ID{Name: k.ByName.GetName(), Input: op.Scratch}
		// On scratch, and after another action of the chain, the names are
		// those of the tree itself.
		if in := k.ByName.GetInput(); in >= 0 && (in != a.GetInput() || in < int64(len(c.op.Inputs))) {
			var err error
			if id.Input, err = c.input(v, in, limit); err != nil {
				return nil, err
			}
		}
		return id, nil
	default:
		return nil, unsupported("an owner of type %T", k)
	}
}

// nanoseconds is nil for the frontend's "no time": -1.
func nanoseconds(t int64) *int64 {
	if t == -1 {
		return nil
	}
	return &t
}
