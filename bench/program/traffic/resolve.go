package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

const (
	sockets     = 4
	outstanding = 64 // of one socket
	patience    = time.Second
	mostLost    = 100 // in 100 000: more is no measurement of a speed
)

// resolve asks n times, by several sockets at once. Sockets are blocking and
// the system calls bare: what asks shall not be what limits.
func resolve(name string, n int) error {
	errs := make(chan error)
	for range sockets {
		go func() { errs <- ask(name, n/sockets) }()
	}
	var err error
	for range sockets {
		err = errors.Join(err, <-errs)
	}
	return err
}

// ask keeps queries outstanding until n were answered. The id of a query is
// that of its slot; one that is lost is asked again.
func ask(name string, n int) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	limit := syscall.NsecToTimeval(patience.Nanoseconds())
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		return err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 11}}); err != nil {
		return err
	}
	query := question(name)
	open := [outstanding]bool{}
	send := func(slot int) error {
		open[slot] = true
		query[0], query[1] = byte(slot>>8), byte(slot)
		_, err := syscall.Write(fd, query)
		return err
	}
	sent, lost := min(n, outstanding), 0
	for slot := range sent {
		if err := send(slot); err != nil {
			return err
		}
	}
	answer := make([]byte, 2048)
	for got := 0; got < n; {
		size, err := syscall.Read(fd, answer)
		if err == syscall.EINTR {
			continue
		}
		if err == syscall.EAGAIN {
			for slot := range open {
				if open[slot] {
					lost++
					if err := send(slot); err != nil {
						return err
					}
				}
			}
			if lost > max(1, n/100_000*mostLost) {
				return fmt.Errorf("%d of %d queries were lost", lost, sent)
			}
			continue
		}
		if err != nil {
			return err
		}
		slot := int(answer[0])<<8 | int(answer[1])
		if size < 12 || slot >= outstanding || !open[slot] {
			continue
		}
		// An answer, no error, at least one record.
		if answer[2]&0x80 == 0 || answer[3]&0x0f != 0 || answer[6] == 0 && answer[7] == 0 {
			return fmt.Errorf("%s: code %d, %d records", name, answer[3]&0x0f, answer[7])
		}
		got++
		open[slot] = false
		if sent < n {
			sent++
			if err := send(slot); err != nil {
				return err
			}
		}
	}
	return nil
}

// question is a query for the addresses (A) of a name, recursion desired.
func question(name string) []byte {
	q := []byte{0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for _, label := range strings.Split(name, ".") {
		q = append(append(q, byte(len(label))), label...)
	}
	return append(q, 0, 0, 1, 0, 1)
}
