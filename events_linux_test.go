package amphora_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
)

// follow collects the events from now on until the returned function is
// called, which waits for the event of that number.
func follow(t *testing.T, eng *amphora.Engine) (stop func(last uint64) []amphora.Event) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var got []amphora.Event
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ev, err := range eng.Events(ctx, &amphora.EventOptions{Follow: true}) {
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			got = append(got, ev)
			mu.Unlock()
		}
	}()
	return func(last uint64) []amphora.Event {
		t.Helper()
		until(t, "the follower has seen all", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(got) > 0 && got[len(got)-1].Seq >= last
		})
		cancel()
		<-ended
		return got
	}
}

func newest(t *testing.T, eng *amphora.Engine) (last uint64) {
	t.Helper()
	for ev, err := range eng.Events(t.Context(), nil) {
		must(t, err)
		last = ev.Seq
	}
	return last
}

func TestEventsTellALife(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	since := newest(t, eng)
	c := started(t, eng, sleeper("told"))
	must(t, c.Pause(t.Context()))
	must(t, c.Resume(t.Context()))
	must(t, c.Rename(t.Context(), "retold"))
	must(t, stopBox(c, t.Context()))
	must(t, c.Remove(t.Context(), nil))
	var actions, connections []string
	names := map[string]string{}
	for ev, err := range eng.Events(t.Context(), &amphora.EventOptions{Since: since}) {
		must(t, err)
		if ev.Seq != since+1 || ev.ID != c.ID() && ev.Attributes["container"] != c.ID() {
			t.Errorf("%+v after %d", ev, since)
		}
		since = ev.Seq
		if ev.Type == "network" {
			connections = append(connections, ev.Action)
			continue
		}
		actions = append(actions, ev.Action)
		names[ev.Action] = ev.Attributes["name"]
	}
	want := []string{"create", "start", "pause", "unpause", "rename", "die", "destroy"}
	if len(actions) != len(want) {
		t.Fatalf("actions %v, want %v", actions, want)
	}
	for i := range want {
		if actions[i] != want[i] {
			t.Errorf("actions %v, want %v", actions, want)
			break
		}
	}
	if !slices.Equal(connections, []string{"connect", "disconnect"}) {
		t.Errorf("the network's events %v", connections)
	}
	if names["start"] != "told" || names["die"] != "retold" || names["destroy"] != "retold" {
		t.Errorf("names %v", names)
	}
}

// Many engines change things at once; the follower sees every event in order.
func TestFollowerMissesNothing(t *testing.T) {
	s := newStore(t)
	eng := s.open(t)
	stop := follow(t, eng)
	const writers, rounds = 20, 5
	var wg sync.WaitGroup
	for range writers {
		own := s.open(t)
		wg.Go(func() {
			for range rounds {
				spec := sleeper("")
				c, err := own.Containers().Create(t.Context(), spec, nil)
				if err == nil {
					err = c.Remove(t.Context(), &container.RemoveOptions{})
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got := stop(newest(t, eng))
	n := 0
	for i, ev := range got {
		if i > 0 && ev.Seq != got[i-1].Seq+1 {
			t.Errorf("event %d follows %d", ev.Seq, got[i-1].Seq)
		}
		if ev.Type == "container" {
			n++
		}
	}
	if n != 2*writers*rounds {
		t.Errorf("%d events of containers, want %d", n, 2*writers*rounds)
	}
	s.truth(t, "written")
}

func TestEventsBeforeTheOldest(t *testing.T) {
	s := emptyStore(t)
	eng := s.open(t)
	for range eng.Events(t.Context(), &amphora.EventOptions{Since: 0}) {
		t.Error("an event of nothing")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range eng.Events(ctx, &amphora.EventOptions{Follow: true}) {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
