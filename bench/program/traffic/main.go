// Command traffic runs inside the containers and makes network traffic. What
// measures prints nanoseconds.
//
//	traffic receive PORT            takes connections and reads them to their ends
//	traffic send ADDRESS:PORT BYTES until the other side has read the last one
//	traffic resolve NAME QUERIES    of 127.0.0.11, for the IPv4 address of NAME
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	var err error
	switch os.Args[1] {
	case "receive":
		err = receive(":" + os.Args[2])
	case "send":
		err = counted(func(n int64) (time.Duration, error) { return send(os.Args[2], n) })
	case "resolve":
		err = counted(func(n int64) (time.Duration, error) { return resolve(os.Args[2], int(n)) })
	}
	if err != nil {
		log.Fatal(err)
	}
}

func counted(f func(n int64) (time.Duration, error)) error {
	n, err := strconv.ParseInt(os.Args[3], 10, 64)
	if err != nil {
		return err
	}
	took, err := f(n)
	if err == nil {
		fmt.Println(took.Nanoseconds())
	}
	return err
}

const piece = 256 << 10 // of one read or write

func receive(addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for buf := make([]byte, piece); ; {
				if _, err := c.Read(buf); err != nil {
					return
				}
			}
		}()
	}
}

func send(addr string, n int64) (time.Duration, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	begin := time.Now()
	for buf := make([]byte, piece); n > 0; n -= piece {
		if _, err := c.Write(buf[:min(piece, n)]); err != nil {
			return 0, err
		}
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, c) // it closes when it has read all
	return time.Since(begin), err
}
