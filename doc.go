// Package amphora embeds containers in a Go program: it pulls images, runs
// and supervises containers, wires their networks and keeps their volumes,
// with no daemon, no socket and no container tool installed.
//
//	eng, err := amphora.Open(ctx, nil)
//	if err != nil { ... }
//	defer eng.Close()
//	out, err := eng.Command(ctx, "alpine", "uname", "-a").Output() // as os/exec
//
// Containers made with Containers().Create outlive the program; a Command's
// end with it, even by kill -9. Any number of processes may share a Root, and
// the next one to look mends what a killed one left.
package amphora
