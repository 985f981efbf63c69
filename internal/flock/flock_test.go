package flock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

func TestExclusiveExcludes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Try(path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(path, Shared); !errors.Is(err, ErrHeld) {
		t.Fatalf("second lock: %v, want ErrHeld", err)
	}
	if held, err := Held(path); err != nil || !held {
		t.Fatalf("Held = %v, %v; want true", held, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Acquire(ctx, path, Exclusive); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Acquire under a held lock: %v", err)
	}
	if err := errors.Join(l.Release(), l.Release()); err != nil {
		t.Fatal(err)
	}
	if held, _ := Held(path); held {
		t.Fatal("still held after Release")
	}
}

func TestUnreferencedLockSurvivesCollection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if _, err := Try(path, Exclusive); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if held, err := Held(path); err != nil || !held {
		t.Fatalf("the collector dropped a lock: held=%v, %v", held, err)
	}
	mu.Lock()
	clear(held)
	mu.Unlock()
}

func TestReplacedFileIsLockedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Try(path, Exclusive)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if same, err := sameFile(l.File(), path); err != nil || same {
		t.Fatalf("sameFile after removal = %v, %v", same, err)
	}
	again, err := Try(path, Exclusive)
	if err != nil {
		t.Fatalf("lock of the new file: %v", err)
	}
	again.Release()
}
