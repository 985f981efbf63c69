package volume_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/amphora-go/amphora/volume"
)

// Keep data under a name, with no container around.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "volumes")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	volumes, err := volume.Open(ctx, &volume.Options{Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state")})
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := volumes.Create(ctx, &volume.Spec{Name: "pgdata", Labels: map[string]string{"app": "shop"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	info, err := v.Inspect(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	os.WriteFile(filepath.Join(info.Source, "hello"), []byte("hello"), 0o644)
	size, _ := v.Size(ctx)
	fmt.Println(info.Name, info.Driver, info.Labels["app"], size)

	_, err = volumes.Create(ctx, &volume.Spec{Name: "pgdata"})
	fmt.Println("twice:", errors.Is(err, fs.ErrExist))
	fmt.Println("removed:", v.Remove(ctx))
	// Output:
	// pgdata local shop 5
	// twice: true
	// removed: <nil>
}

func ExampleParseVolume() {
	m, err := volume.ParseVolume("pgdata:/var/lib/postgresql/data:nocopy")
	fmt.Println(m.Type, m.Source, m.Target, m.NoCopy, err)
	_, err = volume.ParseVolume("/srv:www")
	fmt.Println(err)
	// Output:
	// volume pgdata /var/lib/postgresql/data true <nil>
	// parse volume /srv:www: the target "www" must be an absolute path in the container
}

func ExampleParseMount() {
	m, err := volume.ParseMount("type=tmpfs,dst=/run,tmpfs-size=64m,tmpfs-mode=1770")
	fmt.Println(m.Type, m.Target, m.TmpfsSize, m.TmpfsMode, err)
	// Output: tmpfs /run 67108864 trwxrwx--- <nil>
}
