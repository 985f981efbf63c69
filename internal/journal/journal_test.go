package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

type object struct {
	Seq  uint64
	Name string
}

func update(t *testing.T, j *Journal, dir, id, name string) uint64 {
	t.Helper()
	seq, err := j.Update(t.Context(), Event{Type: "container", Action: "rename", ID: id}, filepath.Join(dir, id), false,
		func(seq uint64) ([]byte, error) { return json.Marshal(object{seq, name}) })
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

func all(t *testing.T, j *Journal, since uint64) []Event {
	t.Helper()
	var out []Event
	for ev, err := range j.Read(t.Context(), &ReadOptions{Since: since}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, ev)
	}
	return out
}

func TestTwentyWritersLeaveNoGap(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const writers, each = 20, 40
	got := make(chan int)
	ready := make(chan struct{})
	go func() {
		n, want := 0, uint64(1)
		close(ready)
		for ev, err := range Open(dir).Read(ctx, &ReadOptions{Follow: true}) {
			if err != nil {
				break
			}
			if ev.Seq != want {
				t.Errorf("event %d follows %d", ev.Seq, want-1)
			}
			want++
			if n++; n == writers*each {
				break
			}
		}
		got <- n
	}()
	<-ready
	for w := range writers {
		wg.Go(func() {
			j := Open(dir) // as another process would
			for i := range each {
				if _, err := j.Commit(t.Context(), Event{Type: "engine", Action: "test", ID: fmt.Sprint(w, i)}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := <-got; n != writers*each {
		t.Errorf("reader saw %d events, want %d", n, writers*each)
	}
}

func TestTornTailIsCutOff(t *testing.T) {
	dir := t.TempDir()
	j := Open(dir)
	update(t, j, dir, "a", "one")
	segs, err := j.segments()
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, segs[0]), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `deadbeef {"seq":2,"ty`)
	f.Close()
	if seq := update(t, Open(dir), dir, "a", "two"); seq != 2 {
		t.Errorf("number after a torn line is %d, want 2", seq)
	}
	if evs := all(t, j, 0); len(evs) != 2 || evs[1].Seq != 2 {
		t.Errorf("events after a torn line: %v", evs)
	}
}

func TestSettle(t *testing.T) {
	seqOf := func(b []byte) (uint64, error) {
		var o object
		err := json.Unmarshal(b, &o)
		return o.Seq, err
	}
	write := func(t *testing.T, path string, o object) {
		b, _ := json.Marshal(o)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ name, last string }{{"logged", "new"}, {"never logged", "old"}, {"number taken by another", "old"}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			j := Open(dir)
			path := filepath.Join(dir, "a")
			update(t, j, dir, "a", "old")
			switch c.name {
			case "logged":
				if _, err := j.Commit(t.Context(), Event{Type: "container", Action: "rename", ID: "a"}, nil); err != nil {
					t.Fatal(err)
				}
			case "number taken by another":
				update(t, j, dir, "b", "other")
			}
			write(t, path+".next", object{2, "new"})
			if err := j.Settle(t.Context(), path, "a", seqOf); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(path)
			var o object
			if err != nil || json.Unmarshal(b, &o) != nil || o.Name != c.last {
				t.Errorf("after Settle the record is %s (%v), want %q", b, err, c.last)
			}
			if _, err := os.Stat(path + ".next"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the .next file is still there: %v", err)
			}
		})
	}
}

func TestFailedPublishIsLoggedAsAbort(t *testing.T) {
	j := Open(t.TempDir())
	boom := errors.New("boom")
	if _, err := j.Commit(t.Context(), Event{Type: "volume", Action: "destroy", ID: "v"}, func(uint64) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("Commit: %v", err)
	}
	evs := all(t, j, 0)
	if len(evs) != 2 || evs[1].Action != "abort" || evs[1].Attributes["of"] != "1" {
		t.Errorf("events: %+v", evs)
	}
	if last, err := j.LastOf(t.Context(), "volume", "v"); err != nil || last.Seq != 1 {
		t.Errorf("LastOf = %+v, %v", last, err)
	}
}

func TestSinceBeforeTheOldestIsAnError(t *testing.T) {
	dir := t.TempDir()
	j := Open(dir)
	update(t, j, dir, "a", "x")
	// A log whose first segments were dropped.
	if _, err := j.begin(1000); err != nil {
		t.Fatal(err)
	}
	segs, _ := j.segments()
	os.Remove(filepath.Join(dir, segs[0]))
	update(t, j, dir, "a", "y")
	for _, err := range j.Read(t.Context(), &ReadOptions{Since: 5}) {
		if !errors.Is(err, ErrTooOld) {
			t.Errorf("since 5: %v, want ErrTooOld", err)
		}
		return
	}
	t.Error("since 5 yielded nothing at all")
}

func TestSegmentsAreBounded(t *testing.T) {
	dir := t.TempDir()
	j := Open(dir)
	for i := range segmentKeep + 5 {
		if _, err := j.begin(uint64(1 + i*10)); err != nil {
			t.Fatal(err)
		}
	}
	j.tail.size, j.tail.seq = segmentSize, j.tail.seq+5
	segs, _ := j.segments()
	j.tail.segment = segs[len(segs)-1]
	f, err := os.OpenFile(filepath.Join(dir, j.tail.segment), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.Truncate(segmentSize)
	f.Close()
	update(t, j, dir, "a", "x")
	if segs, _ := j.segments(); len(segs) != segmentKeep {
		t.Errorf("%d segments kept, want %d", len(segs), segmentKeep)
	}
}

// A follower that read half a line must see the one that is written in its
// place.
func TestFollowerSurvivesTornLine(t *testing.T) {
	dir := t.TempDir()
	j := Open(dir)
	commit := func(id string) {
		t.Helper()
		if _, err := j.Commit(t.Context(), Event{Type: "engine", Action: "test", ID: id}, nil); err != nil {
			t.Fatal(err)
		}
	}
	commit("one")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := make(chan Event)
	go func() {
		defer close(got)
		for ev, err := range Open(dir).Read(ctx, &ReadOptions{Follow: true}) {
			if err != nil {
				return
			}
			got <- ev
		}
	}()
	if ev := <-got; ev.ID != "one" {
		t.Fatalf("first event %+v", ev)
	}
	segs, err := j.segments()
	if err != nil || len(segs) != 1 {
		t.Fatal(segs, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, segs[0]), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	line, err := encodeLine(entry{Event: Event{Seq: 2, Type: "engine", Action: "test", ID: "torn"}})
	if err != nil {
		t.Fatal(err)
	}
	f.Write(line[:len(line)/2])
	f.Close()
	for _, id := range []string{"two", "three"} {
		commit(id)
		if ev := <-got; ev.ID != id {
			t.Fatalf("got %+v, want %s", ev, id)
		}
	}
}

// Two files of one object: what was prepared for one and never logged is not
// taken for the other's that got its number.
func TestSettleKnowsTheFile(t *testing.T) {
	dir := t.TempDir()
	j := Open(filepath.Join(dir, "journal"))
	if err := os.WriteFile(filepath.Join(dir, "a.next"), []byte(`{"Seq":1,"Name":"never logged"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	encode := func(seq uint64) ([]byte, error) { return json.Marshal(object{seq, "b"}) }
	if _, err := j.Update(t.Context(), Event{ID: "x"}, filepath.Join(dir, "b"), false, encode); err != nil {
		t.Fatal(err)
	}
	seqOf := func(b []byte) (uint64, error) {
		var o object
		err := json.Unmarshal(b, &o)
		return o.Seq, err
	}
	if err := j.Settle(t.Context(), filepath.Join(dir, "a"), "x", seqOf); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "a.next"} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s exists: %v", name, err)
		}
	}
}

// Settling beside a live writer must not take its prepared file away.
func TestSettleBesideWriter(t *testing.T) {
	dir := t.TempDir()
	j := Open(filepath.Join(dir, "journal"))
	path := filepath.Join(dir, "a")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 200 {
			_, err := j.Update(t.Context(), Event{ID: "x"}, path, false, func(seq uint64) ([]byte, error) {
				return json.Marshal(object{seq, fmt.Sprint(i)})
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	}()
	other := Open(filepath.Join(dir, "journal"))
	for {
		select {
		case <-done:
			return
		default:
		}
		err := other.Settle(t.Context(), path, "x", func(b []byte) (uint64, error) {
			var o object
			err := json.Unmarshal(b, &o)
			return o.Seq, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
