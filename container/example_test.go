package container_test

import (
	"errors"
	"fmt"

	"github.com/amphora-go/amphora/container"
)

// What a command line ends with after a container did.
func ExampleCode() {
	err := fmt.Errorf("run: %w", &container.ExitError{Exit: container.Exit{Code: 7}})
	var exit *container.ExitError
	fmt.Println(errors.As(err, &exit), container.Code(err), container.Code(nil))
	// Output: true 7 0
}

func ExampleParseSignal() {
	for _, name := range []string{"SIGTERM", "kill", "RTMIN+3", "nonsense"} {
		n, err := container.ParseSignal(name)
		fmt.Println(n, err != nil)
	}
	// Output:
	// 15 false
	// 9 false
	// 37 false
	// 0 true
}
