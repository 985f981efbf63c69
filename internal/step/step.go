// Package step names the points of every multi-step operation at which a
// crash test may kill the process. Outside of such tests a point costs one
// atomic load and does nothing.
package step

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
)

// Plan says where to act. Name is the point; At is how many passages come
// before (0: act at the first). Helper processes get the plan of their parent.
type Plan struct {
	Name string `json:"name"`
	At   int    `json:"at,omitempty"`
	// Helper spares this process: only its helper processes act.
	Helper bool `json:"helper,omitempty"`
	// Alone arms this process only, not its helpers.
	Alone bool `json:"alone,omitempty"`
	// List is a file to which a line for each point passed is appended: pid and
	// name. With Name empty that is all.
	List string `json:"list,omitempty"`
}

var (
	armed atomic.Pointer[state]
	// kill ends this process at once, as SIGKILL would.
	kill = killSelf
)

type state struct {
	plan   Plan
	mu     sync.Mutex // guards passed
	passed int
	hook   func(string)
}

// Arm makes this process die at the planned point. Only crash tests call it.
func Arm(p Plan) { armed.Store(&state{plan: p}) }

// Observe calls f with the name of each point passed: tests list the points
// with it, so that a kill matrix misses none.
func Observe(f func(name string)) { armed.Store(&state{hook: f}) }

// Disarm undoes Arm and Observe.
func Disarm() { armed.Store(nil) }

// Armed returns the plan to hand to a helper process, nil when there is none.
func Armed() *Plan {
	s := armed.Load()
	if s == nil || s.hook != nil || s.plan.Alone {
		return nil
	}
	p := s.plan
	p.Helper = false
	return &p
}

// At marks a point.
func At(name string) {
	s := armed.Load()
	if s == nil {
		return
	}
	if s.hook != nil {
		s.hook(name)
		return
	}
	if s.plan.Helper {
		return
	}
	if s.plan.List != "" {
		s.list(name)
	}
	if s.plan.Name != name {
		return
	}
	s.mu.Lock()
	n := s.passed
	s.passed++
	s.mu.Unlock()
	if n == s.plan.At {
		kill()
	}
}

// list appends name to the plan's file: one write, so that the lines of
// several processes do not mix.
func (s *state) list(name string) {
	f, err := os.OpenFile(s.plan.List, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	fmt.Fprintf(f, "%d %s\n", os.Getpid(), name)
	f.Close()
}
