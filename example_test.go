package amphora_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/amphora-go/amphora"
	"github.com/amphora-go/amphora/container"
)

// A command in a container, used as an os/exec.Cmd. It needs root and a
// registry, so this example is compiled and not run.
func ExampleEngine_Command() {
	ctx := context.Background()
	eng, err := amphora.Open(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	cmd := eng.Command(ctx, "alpine", "sh", "-c", "echo hello; exit 3")
	cmd.Stdout = os.Stdout
	cmd.Resources.Memory = 64 << 20
	err = cmd.Run()
	var exit *container.ExitError
	if errors.As(err, &exit) {
		fmt.Println("exit code", exit.Code)
	}
}

// A store is a pair of directories. Opening it starts nothing.
func ExampleOpen() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "amphora-example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	eng, err := amphora.Open(ctx, &amphora.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		log.Fatal(err)
	}
	defer eng.Close()
	containers, err := eng.Containers().List(ctx, nil)
	fmt.Println(len(containers), "containers,", err)
	// Output: 0 containers, <nil>
}
