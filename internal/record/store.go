package record

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"time"

	"github.com/amphora-go/amphora/internal/atomicfile"
	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/journal"
	"github.com/amphora-go/amphora/internal/proc"
	"github.com/amphora-go/amphora/internal/step"
)

// Lock takes the container's lock and finishes what a killed writer left.
func (r *Root) Lock(ctx context.Context, id string) (*flock.Lock, error) {
	l, err := flock.Acquire(ctx, r.Path(id, "lock"), flock.Exclusive)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.NotExist("no such container")
	}
	if err != nil {
		return nil, fault.Opaque(err)
	}
	if err := r.settle(ctx, id); err != nil {
		l.Release()
		return nil, err
	}
	return l, nil
}

func (r *Root) settle(ctx context.Context, id string) error {
	for _, name := range []string{"record.json", "run.json", "exit.json"} {
		if err := r.settleFile(ctx, id, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Root) settleFile(ctx context.Context, id, name string) error {
	return r.Log.Settle(ctx, r.Path(id, name), id, func(b []byte) (uint64, error) {
		var head struct{ Seq uint64 }
		err := json.Unmarshal(b, &head)
		return head.Seq, err
	})
}

// Settle makes record.json what the log says, if a killed writer got no
// further than that. It needs no lock.
func (r *Root) Settle(ctx context.Context, id string) error {
	return r.settleFile(ctx, id, "record.json")
}

// TryAlive takes the lock that means life. flock.ErrHeld: the container runs,
// or somebody starts or recovers it.
func (r *Root) TryAlive(id string) (*flock.Lock, error) {
	l, err := flock.Try(r.alive(id), flock.Exclusive)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.NotExist("no such container")
	}
	if errors.Is(err, flock.ErrHeld) {
		return nil, err
	}
	return l, fault.Opaque(err)
}

// Alive waits for that lock.
func (r *Root) Alive(ctx context.Context, id string) (*flock.Lock, error) {
	l, err := flock.Acquire(ctx, r.alive(id), flock.Exclusive)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.NotExist("no such container")
	}
	return l, fault.Opaque(err)
}

// Load reads record.json.
func (r *Root) Load(id string) (*Container, error) {
	c := new(Container)
	if err := r.read(id, "record.json", c); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, fault.NotExist("no such container")
		}
		return nil, err
	}
	return c, nil
}

func (r *Root) read(id, name string, v any) error {
	path := r.Path(id, name)
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return decode(path, b, v)
}

// event makes a container's event with the attributes Docker gives it.
func (c *Container) event(action string, extra map[string]string) journal.Event {
	attrs := map[string]string{"name": c.Name, "image": c.Image}
	maps.Copy(attrs, c.Labels)
	maps.Copy(attrs, extra)
	return journal.Event{Type: "container", Action: action, ID: c.ID, Attributes: attrs}
}

// durable says whether the record must survive power loss: one that is
// removed at its end would be removed anyway.
func (c *Container) durable() bool { return !c.AutoRemove }

// Create makes a container. It fills ID, Name, Created and Version. On
// failure nothing stays. The caller gets the container locked.
func (r *Root) Create(ctx context.Context, c *Container, cfg *Config, spec []byte) (_ *flock.Lock, err error) {
	c.Version, cfg.Version, c.Created = Version, Version, time.Now().UTC()
	if c.ID == "" {
		c.ID = NewID()
	}
	l, err := r.claim(c.ID)
	if err != nil {
		return nil, storeError("make the container's directory", err)
	}
	defer func() {
		if err != nil {
			r.release(c.Name, c.ID)
			os.RemoveAll(r.Path(c.ID))
			l.Release()
		}
	}()
	step.At("create.directory")
	if err := r.name(ctx, c); err != nil {
		return nil, err
	}
	step.At("create.name")
	if err := atomicfile.WriteJSON(r.Path(c.ID, "config.json"), cfg, 0o600, c.durable()); err != nil {
		return nil, fault.Opaque(err)
	}
	if err := atomicfile.Write(r.Path(c.ID, "spec.json"), spec, 0o600, c.durable()); err != nil {
		return nil, fault.Opaque(err)
	}
	step.At("create.config")
	if err := r.Save(ctx, c, "create", nil); err != nil {
		return nil, err
	}
	step.At("create.recorded")
	return l, nil
}

// claim makes a container's directory and locks it. A directory that nobody
// has locked yet may be swept away as left by a killed process: then it is
// made again.
func (r *Root) claim(id string) (*flock.Lock, error) {
	for {
		if err := os.Mkdir(r.Path(id), 0o711); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		l, err := flock.Try(r.Path(id, "lock"), flock.Exclusive)
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, flock.ErrHeld) {
			return l, err
		}
		time.Sleep(time.Millisecond)
	}
}

func (r *Root) name(ctx context.Context, c *Container) error {
	if c.Build {
		return nil
	}
	if c.Name != "" {
		if err := CheckName(c.Name); err != nil {
			return err
		}
		return r.reserve(ctx, c.Name, c.ID)
	}
	for try := 0; ; try++ {
		name := randomName(try)
		err := r.reserve(ctx, name, c.ID)
		if err == nil {
			c.Name = name
			return nil
		}
		if !errors.Is(err, os.ErrExist) || try > 20 {
			return err
		}
	}
}

// Save writes record.json and logs action. The container is locked.
func (r *Root) Save(ctx context.Context, c *Container, action string, attrs map[string]string) error {
	path := r.Path(c.ID, "record.json")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Opaque(err)
	}
	_, err = r.Log.Update(ctx, c.event(action, attrs), path, c.durable(), func(seq uint64) ([]byte, error) {
		c.Seq = seq
		return merge(old, c)
	})
	return err
}

// SaveQuietly writes record.json without an event, for what is no change that
// anybody waits for.
func (r *Root) SaveQuietly(c *Container) error {
	path := r.Path(c.ID, "record.json")
	old, err := os.ReadFile(path)
	if err != nil {
		return fault.Opaque(err)
	}
	data, err := merge(old, c)
	if err != nil {
		return err
	}
	return fault.Opaque(atomicfile.Write(path, data, 0o600, c.durable()))
}

// Rename gives the container another name. It is locked.
func (r *Root) Rename(ctx context.Context, c *Container, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if name == c.Name {
		return fault.Invalid("the container is already called %q", name)
	}
	if err := r.reserve(ctx, name, c.ID); err != nil {
		return err
	}
	step.At("rename.reserved")
	was := c.Name
	c.Name = name
	if err := r.Save(ctx, c, "rename", map[string]string{"oldName": "/" + was}); err != nil {
		c.Name = was
		r.release(name, c.ID)
		return err
	}
	step.At("rename.recorded")
	r.release(was, c.ID)
	return nil
}

// Begin records that a start begins: from here until Started or Exited a
// reader who finds nobody alive knows that there is something to mend.
func (r *Root) Begin(c *Container, run *Run) error {
	run.Version = Version
	return fault.Opaque(atomicfile.WriteJSON(r.Path(c.ID, "run.json"), run, 0o600, c.durable()))
}

// Started records that the process runs and logs "start".
func (r *Root) Started(ctx context.Context, c *Container, run *Run) error {
	return r.putRun(ctx, c, run, "start")
}

func (r *Root) putRun(ctx context.Context, c *Container, run *Run, action string) error {
	_, err := r.Log.Update(ctx, c.event(action, nil), r.Path(c.ID, "run.json"), false, func(seq uint64) ([]byte, error) {
		run.Seq = seq
		return json.Marshal(run)
	})
	return err
}

// SetStatus records pause and unpause.
func (r *Root) SetStatus(ctx context.Context, c *Container, run *Run, status Status, action string) error {
	next := *run
	next.Status = status
	if err := r.putRun(ctx, c, &next, action); err != nil {
		return err
	}
	*run = next
	return nil
}

// Log writes an event that changes no file.
func (r *Root) LogEvent(ctx context.Context, c *Container, action string, attrs map[string]string) error {
	_, err := r.Log.Commit(ctx, c.event(action, attrs), nil)
	return err
}

// Exited records an exit and logs "die". What Begin began is ended by EndRun,
// once nothing is left of the run: a kill between the two leaves something to
// clear.
func (r *Root) Exited(ctx context.Context, c *Container, exit *Exit, attrs map[string]string) error {
	if err := exit.stamp(); err != nil {
		return err
	}
	_, err := r.Log.Update(ctx, c.event("die", attrs), r.Path(c.ID, "exit.json"), c.durable(), func(seq uint64) ([]byte, error) {
		exit.Seq = seq
		return json.Marshal(exit)
	})
	if err != nil {
		return err
	}
	step.At("exit.recorded")
	return nil
}

func (e *Exit) stamp() (err error) {
	e.Version = Version
	if e.Boot == "" {
		e.Boot, err = proc.BootID()
	}
	return fault.Opaque(err)
}

// Failed records why a start failed, and ends what Begin began: no process
// ran, so there is no event. Nothing is left of the attempt.
func (r *Root) Failed(c *Container, exit *Exit) error {
	if err := exit.stamp(); err != nil {
		return err
	}
	if last, err := r.LoadExit(c.ID); err == nil && last != nil {
		exit.Seq = last.Seq
	}
	if err := atomicfile.WriteJSON(r.Path(c.ID, "exit.json"), exit, 0o600, c.durable()); err != nil {
		return fault.Opaque(err)
	}
	return r.EndRun(c.ID)
}

// EndRun says that nothing is left of the last run, whose exit is recorded.
func (r *Root) EndRun(id string) error {
	if err := os.Remove(r.Path(id, "run.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fault.Opaque(err)
	}
	return nil
}

// LoadRun reads run.json; nil when there is none.
func (r *Root) LoadRun(id string) (*Run, error) {
	return optional[Run](r, id, "run.json")
}

// LoadExit reads exit.json; nil when there is none.
func (r *Root) LoadExit(id string) (*Exit, error) {
	return optional[Exit](r, id, "exit.json")
}

func optional[T any](r *Root, id, name string) (*T, error) {
	v := new(T)
	err := r.read(id, name, v)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Opaque(err)
	}
	return v, nil
}

// MarkRemoving makes sure that a removal that is cut short is finished. A
// container that is removed at its end needs no mark once it has ended.
func (r *Root) MarkRemoving(c *Container, withVolumes bool) error {
	ended := false
	if c.AutoRemove {
		exit, err := r.LoadExit(c.ID)
		ended = err == nil && exit != nil
	}
	if !c.Removing && !ended {
		c.Removing, c.WithVolumes = true, withVolumes
		if err := r.SaveQuietly(c); err != nil {
			return err
		}
	}
	step.At("remove.marked")
	return nil
}

// Remove takes a marked container out of the store. Its lock and alive are held;
// both locks are gone with it. The returned function deletes the files, which
// may take long and may be interrupted.
func (r *Root) Remove(ctx context.Context, c *Container) (empty func() error, err error) {
	r.release(c.Name, c.ID)
	step.At("remove.name")
	_, err = r.Log.Commit(ctx, c.event("destroy", nil), func(uint64) error {
		empty, err = r.Discard(r.Path(c.ID))
		return err
	})
	if err != nil {
		return nil, err
	}
	step.At("remove.discarded")
	return empty, nil
}

// FinishRemoval is Remove where somebody may have logged the removal already.
func (r *Root) FinishRemoval(ctx context.Context, c *Container) (empty func() error, err error) {
	last, err := r.Log.LastOf(ctx, "container", c.ID)
	if err != nil {
		return nil, err
	}
	if last.Action != "destroy" {
		return r.Remove(ctx, c)
	}
	r.release(c.Name, c.ID)
	return r.Discard(r.Path(c.ID))
}
