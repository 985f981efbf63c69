// Package shim is the process that supervises one container, and the client
// through which programs talk to it.
//
// A program starts a shim by executing itself again (Launch). The shim enters
// a control group of its own, mounts the container's root in a mount
// namespace of its own, starts the container's init as its child, and from
// then on owns everything that the running container needs: its streams and
// log, its exit status, its restarts, its removal. The program may go away.
//
// The shim holds the container's alive lock from birth to death. That lock,
// and nothing else, says whether a container is supervised.
package shim

import (
	"time"

	"github.com/amphora-go/amphora/internal/record"
	"github.com/amphora-go/amphora/internal/step"
	"github.com/amphora-go/amphora/internal/wire"
)

// Request is what a client sends, first after its hello. Files travel with
// it in the order of the fields that announce them.
type Request struct {
	Hello *wire.Hello `json:"hello,omitempty"`
	Op    string      `json:"op"`

	Launch  *Launch       `json:"launch,omitempty"`
	Exec    *Exec         `json:"exec,omitempty"`
	Streams Streams       `json:"streams,omitzero"`
	Signal  int           `json:"signal,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
	Until   string        `json:"until,omitempty"` // of wait: exit, removed
	Width   uint16        `json:"width,omitempty"`
	Height  uint16        `json:"height,omitempty"`
	Network string        `json:"network,omitempty"`
	Address string        `json:"address,omitempty"`

	Endpoint *record.Endpoint `json:"endpoint,omitempty"`
	Update   *Update          `json:"update,omitempty"`
}

// Operations of a Request.
const (
	opState      = "state"      // -> Reply.Run
	opWait       = "wait"       // -> Reply.Exit when it happens
	opSignal     = "signal"     // to the container's init, or on an exec's connection to that process
	opStop       = "stop"       // Signal, Timeout; -> Reply.Exit
	opPause      = "pause"      //
	opResume     = "resume"     //
	opExec       = "exec"       // Exec, Streams; -> Reply.Pid, later Reply.Exit
	opAttach     = "attach"     // Streams; -> Reply, later Reply.Closed
	opResize     = "resize"     // Width, Height; on an exec's connection its own terminal
	opRoot       = "root"       // -> a descriptor of the container's root directory
	opTree       = "tree"       // -> opRoot's, and one that keeps its mounts together when the container ends
	opBase       = "base"       // -> a descriptor of its root directory without what is mounted there
	opHold       = "hold"       // -> Reply when its processes are frozen, until the connection closes
	opUpdate     = "update"     // Update
	opNetNS      = "netns"      // -> a descriptor of its network namespace
	opDial       = "dial"       // Network, Address; -> a connected socket
	opConnect    = "connect"    // Endpoint
	opDisconnect = "disconnect" // Network
	opOwn        = "own"        // a pipe and a pidfd: end with them too
	opPids       = "pids"       // -> Reply.Pids
	opKeep       = "keep"       // do not remove it at its end
	opDiscard    = "discard"    // remove it at its end
)

// Launch tells a new shim what to run. The alive lock comes as the first
// file, then for each owner a pipe and a pidfd, then a joined network
// namespace, then the streams.
type Launch struct {
	Root     string     `json:"root"`
	State    string     `json:"state"`
	ID       string     `json:"id"`
	Boot     string     `json:"boot"`
	RootID   string     `json:"rootID"`
	Base     string     `json:"base"` // control group of the Root
	Owners   int        `json:"owners,omitempty"`
	NetNS    bool       `json:"netns,omitempty"`
	Restarts int        `json:"restarts,omitempty"`
	Secrets  *Secrets   `json:"secrets,omitempty"`
	Step     *step.Plan `json:"step,omitempty"`
}

// Secrets are what the command of a build may see and no file may hold.
type Secrets struct {
	Env   []string `json:"env,omitempty"`   // NAME=value
	Files [][]byte `json:"files,omitempty"` // contents of the Build's Secrets
}

// Update changes limits and restart policy. Seq is that of the record from
// which they were computed: if it has changed since, nothing is done, and the
// answer is fault.ErrInUse.
type Update struct {
	Seq     uint64         `json:"seq"`
	Limits  *record.Update `json:"limits,omitempty"` // nil: they stay
	Restart record.Restart `json:"restart"`
}

// Streams says which pipes come with a request.
type Streams struct {
	Stdin  bool `json:"stdin,omitempty"`
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
}

func (s Streams) count() int {
	n := 0
	for _, b := range []bool{s.Stdin, s.Stdout, s.Stderr} {
		if b {
			n++
		}
	}
	return n
}

// Exec is a further process of a running container. What is empty is as the
// container's own process has it.
type Exec struct {
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"` // added to the container's
	Dir        string   `json:"dir,omitempty"`
	User       string   `json:"user,omitempty"`
	TTY        bool     `json:"tty,omitempty"`
	Width      uint16   `json:"width,omitempty"` // of the terminal, in cells
	Height     uint16   `json:"height,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	Long       bool     `json:"long,omitempty"` // by libcontainer, also where there is a shorter way: for tests
}

// Reply is what a shim sends.
type Reply struct {
	Error   *wire.Error  `json:"error,omitempty"`
	Code    int          `json:"code,omitempty"` // with Error of a start: 125, 126, 127
	Hello   *wire.Hello  `json:"hello,omitempty"`
	Run     *record.Run  `json:"run,omitempty"`
	Exit    *record.Exit `json:"exit,omitempty"`
	Pid     int          `json:"pid,omitempty"`
	Pids    []int        `json:"pids,omitempty"`
	Closed  string       `json:"closed,omitempty"` // why an attachment ended: "end", "slow"
	Removed bool         `json:"removed,omitempty"`
}
