// Command registry serves the images of a store to docker, podman, skopeo,
// Kubernetes and whatever else speaks to registries. Containers of the same
// store run what is pushed to it.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/amphora-go/amphora/image"
)

func main() {
	var opts image.Options
	var serve image.ServeOptions
	flag.StringVar(&opts.Root, "root", "", "directory of the images (default: amphora's own)")
	flag.StringVar(&opts.State, "state", "", "directory of what does not survive a reboot")
	listen := flag.String("listen", "127.0.0.1:5000", "address to serve at; put TLS before any other than loopback")
	flag.StringVar(&serve.Host, "host", "", "registry that the images' names begin with (default: names as they are pushed)")
	flag.BoolVar(&serve.ReadOnly, "read-only", false, "refuse pushes and deletions")
	flag.BoolVar(&serve.PullThrough, "pull-through", false, "fetch what is not here from the registry that it is named after")
	flag.Parse()
	store, err := image.Open(context.Background(), &opts)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *listen, Handler: image.Serve(store, &serve), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	log.Printf("serving the images of %s at http://%s/v2/", store.Root(), *listen)
	log.Fatal(server.ListenAndServe())
}
