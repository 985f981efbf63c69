package network_test

import (
	"fmt"

	"github.com/amphora-go/amphora/network"
)

func ExampleEndpoint_Validate() {
	fmt.Println(network.Endpoint{Network: network.Container("db")}.Validate())
	fmt.Println(network.Endpoint{Network: "container:"}.Validate())
	// Output:
	// <nil>
	// network "container:": use none, host, or container:NAME
}
