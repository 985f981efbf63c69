package record

import (
	"errors"
	"os"
	"syscall"

	"github.com/amphora-go/amphora/internal/fault"
	"github.com/amphora-go/amphora/internal/flock"
	"github.com/amphora-go/amphora/internal/proc"
)

// Snapshot is what the disk says of a container at one moment.
type Snapshot struct {
	*Container
	Status   Status
	Starting bool  // a start is under way
	Run      *Run  // set while it runs, or should
	Exit     *Exit // the last exit, or failed start; may be nil
	// Lost says that the record tells of a run that nobody supervises: the
	// shim was killed or the machine restarted. It must be recovered before
	// the status is true.
	Lost bool
	// Unwritten is why that could not be recorded: the disk is full, or may not
	// be written. The status is true all the same.
	Unwritten error
}

// Judge reads a container and says where it is. It changes nothing.
func (r *Root) Judge(id string) (*Snapshot, error) {
	for range 5 {
		s, err := r.judge(id)
		if err != nil || !s.Lost {
			return s, err
		}
		// run.json was read before the lock was found free: the shim may have
		// recorded its exit between. Look again.
		again, err := r.judge(id)
		if err != nil || !again.Lost || sameRun(s.Run, again.Run) {
			return again, err
		}
	}
	return r.judge(id)
}

func sameRun(a, b *Run) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}

// JudgeHeld is Judge by the holder of the alive lock: he supervises nothing,
// so a run that is recorded is lost.
func (r *Root) JudgeHeld(id string) (*Snapshot, error) {
	return r.judgeWith(id, func() (bool, error) { return false, nil })
}

func (r *Root) judge(id string) (*Snapshot, error) {
	return r.judgeWith(id, func() (bool, error) { return r.held(id) })
}

func (r *Root) judgeWith(id string, held func() (bool, error)) (*Snapshot, error) {
	c, err := r.Load(id)
	if err != nil {
		return nil, err
	}
	run, err := r.LoadRun(id)
	if err != nil {
		return nil, err
	}
	exit, err := r.LoadExit(id)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{Container: c, Exit: exit, Status: Created}
	if exit != nil && exit.Seq > 0 {
		s.Status = Exited
	}
	if c.Removing {
		s.Status = Removing
	}
	if run == nil {
		return s, r.leftover(s, held)
	}
	boot, err := proc.BootID()
	if err != nil {
		return nil, fault.Opaque(err)
	}
	alive, err := held()
	if err != nil {
		return nil, err
	}
	// The lock alone may be held by one who recovers the container just now.
	s.Lost = !alive || run.Boot != boot || dead(run.Shim, run.ShimStart)
	if run.Seq > 0 && exit != nil && exit.Seq > run.Seq { // it ended, but not all of it is cleared away
		if exit.Again && !s.Lost {
			s.Run, s.Status = run, Restarting
		}
		return s, nil
	}
	s.Run = run
	switch {
	case s.Lost:
	case run.Seq == 0 && run.Status == Restarting:
		s.Status = Restarting
	case run.Seq == 0:
		s.Starting = true
	default:
		s.Status = run.Status
	}
	return s, nil
}

// dead reports that a process is surely not there any more.
func dead(pid int, start uint64) bool {
	st, err := proc.ReadStat(pid)
	if err != nil {
		return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH)
	}
	return st.StartTime != start || st.State == 'Z' || st.State == 'X'
}

// leftover finds a container that should be gone: its removal was cut short,
// or it was to be removed at its end and its supervisor was killed on the way,
// or its owner died before starting it.
func (r *Root) leftover(s *Snapshot, held func() (bool, error)) error {
	c := s.Container
	ownerless := c.Owned && s.Status == Created && c.Owner != nil && !proc.Alive(c.Owner.Pid, c.Owner.Start)
	if !(c.Removing || c.AutoRemove && (s.Status == Exited || s.Exit != nil || ownerless)) {
		return nil
	}
	alive, err := held()
	s.Lost = !alive
	return err
}

func (r *Root) held(id string) (bool, error) {
	held, err := flock.Held(r.alive(id))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return held, err
}
