package network_test

import (
	"context"
	"fmt"
	"log"
	"net/http"

	"github.com/amphora-go/amphora/network"
)

func ExampleEndpoint_Validate() {
	fmt.Println(network.Endpoint{Network: network.Container("db")}.Validate())
	fmt.Println(network.Endpoint{Network: "container:"}.Validate())
	// Output:
	// <nil>
	// network "container:": name a network, or use bridge, none, host, or container:NAME
}

func ExampleParsePort() {
	ports, err := network.ParsePort("127.0.0.1:8080-8081:80-81")
	fmt.Println(ports, err)
	// Output: [127.0.0.1:8080:80 127.0.0.1:8081:81] <nil>
}

// A program serves the containers of a network under a name: no port of the
// host is published for it.
func ExampleNetwork_Listen() {
	ctx := context.Background()
	networks, err := network.Open(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	app, err := networks.Create(ctx, &network.Spec{Name: "app", IPv6: true})
	if err != nil {
		log.Fatal(err)
	}
	api, err := app.Listen(ctx, "tcp", "api:80") // containers on app get http://api/
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(api, http.FileServer(http.Dir("/srv"))))
}
