//go:build linux

// Command server is what runs in the quickstart's container: a small web
// server, and ways to use up what a container may have.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0)
	switch word := append(os.Args, "serve")[1]; word {
	case "serve":
		serve()
	case "whoami":
		host, _ := os.Hostname()
		fmt.Printf("pid %d, uid %d, on host %s\n", os.Getpid(), os.Getuid(), host)
	case "memory":
		memory()
	case "threads":
		threads()
	case "processor":
		processor()
	default:
		log.Fatalf("server: unknown word %q", word)
	}
}

func serve() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		log.Println(r.Method, r.URL.Path)
		fmt.Fprintf(w, "hello, %s", r.URL.Query().Get("name"))
	})
	go func() { log.Fatal(http.ListenAndServe("127.0.0.1:8080", nil)) }()
	log.Println("listening on port 8080")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	log.Println("asked to stop, bye")
}

// memory takes a gigabyte. It counts when it is written to.
func memory() {
	taken := make([]byte, 1<<30)
	for i := range taken {
		taken[i] = 1
	}
	fmt.Println("a gigabyte")
}

// threads starts a hundred.
func threads() {
	for range 100 {
		go func() {
			runtime.LockOSThread()
			select {}
		}()
		time.Sleep(time.Millisecond)
	}
	fmt.Println("100 threads")
}

// processor is busy for a second and says how much of it it got.
func processor() {
	begin := time.Now()
	for time.Since(begin) < time.Second {
	}
	var used syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	got := time.Duration(used.Utime.Nano() + used.Stime.Nano())
	fmt.Printf("%.2f s of work in %.2f s", got.Seconds(), time.Since(begin).Seconds())
}
