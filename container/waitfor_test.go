package container

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/amphora-go/amphora/network"
)

func TestWaitFor(t *testing.T) {
	b := newBench(t)
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	c := b.start(t, Spec{}, "sh", "-c", "echo starting; sleep 0.1; echo ready at last; touch /up; http :8080 hello")
	for _, cond := range []Condition{
		Logged("ready.*last"), File("/up"), Listening("8080"), ExecOK("test", "-e", "/up"), HTTP(HTTPCheck{Port: "8080"}),
		HTTP(HTTPCheck{Port: "8080", Path: "x", Body: func(b []byte) bool { return strings.Contains(string(b), "hello") }}),
		All(Listening("8080/tcp"), File("up")), Any(File("/never"), File("/up")), All(),
	} {
		if err := c.WaitFor(ctx, cond); err != nil {
			t.Errorf("%s: %v", cond, err)
		}
	}
	// On the host's network it is the host's table that counts.
	udp := b.start(t, Spec{Networks: []network.Endpoint{{Network: network.None}}}, "udpecho", ":53")
	if err := udp.WaitFor(ctx, Listening("53/udp")); err != nil {
		t.Error(err)
	}
	one := b.start(t, Spec{}, "sh", "-c", "sleep 0.1; exit 3")
	if err := one.WaitFor(ctx, Ended(3)); err != nil {
		t.Error(err)
	}
	if err := one.WaitFor(ctx, Ended()); err != nil {
		t.Error(err)
	}
	if err := one.WaitFor(ctx, Ended(0, 1)); err == nil || !strings.Contains(err.Error(), "code 3") {
		t.Errorf("another code: %v", err)
	}
}

func TestWaitForInVain(t *testing.T) {
	b := newBench(t)
	c := b.start(t, Spec{}, "sh", "-c", "echo about to fail; sleep 0.1; echo it failed; exit 4")
	err := c.WaitFor(t.Context(), Listening("80"), File("/x"))
	var why *NotReadyError
	if !errors.As(err, &why) || why.Exit == nil || why.Exit.Code != 4 || !errors.Is(err, ErrNotRunning) {
		t.Fatalf("%v", err)
	}
	says(t, err, "code 4", "listening on 80 and showing the file /x", "it failed")
	if err := c.WaitFor(t.Context(), Logged("it failed")); err != nil { // met before the end
		t.Error(err)
	}
	err = c.WaitFor(t.Context(), Logged("never"))
	says(t, err, "code 4", "never")

	idle := b.start(t, Spec{}, "pause")
	ctx, done := context.WithTimeout(t.Context(), time.Second)
	defer done()
	err = idle.WaitFor(ctx, Any(Listening("80"), ExecOK("false")))
	is(t, err, context.DeadlineExceeded)
	says(t, err, "listening on 80 or answering false", "nothing listens")
	for _, bad := range []Condition{Listening("x"), Listening("1-2"), HTTP(HTTPCheck{}), HTTP(HTTPCheck{Port: "80", Method: "(", Host: "x"}), Logged("("), ExecOK(), Any()} {
		ctx, done := context.WithTimeout(t.Context(), patience)
		defer done()
		if err := idle.WaitFor(ctx, bad); errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fs.ErrInvalid) && !strings.Contains(err.Error(), "parsing regexp") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	rest := b.create(t, Spec{}, "pause")
	is(t, rest.WaitFor(t.Context(), Listening("80")), ErrNotRunning)
}
