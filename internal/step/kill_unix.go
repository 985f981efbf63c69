//go:build unix

package step

import "syscall"

func killSelf() {
	syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
	select {} // never go on past the point
}
