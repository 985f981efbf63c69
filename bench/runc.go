package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
)

// runc runs the unpacked root filesystem, which is shared by all its
// containers, with the configuration that "runc spec" makes: no seccomp.
type runc struct {
	cli *tool
	dir string
}

func (b *bench) startRunc(ctx context.Context) (*runc, error) {
	r := &runc{dir: b.site.path("runc")}
	if err := os.MkdirAll(r.dir+"/rootfs", 0o755); err != nil {
		return nil, err
	}
	r.cli = &tool{argv: []string{"runc", "--root", r.dir + "/state"}, dir: b.site.dir}
	b.site.later(func() { removeGroups(runcGroup()) })
	if err := exec.CommandContext(ctx, "tar", "-C", r.dir+"/rootfs", "-xf", b.site.path("rootfs.tar")).Run(); err != nil {
		return nil, err
	}
	if err := r.bundle(ctx, "true", "true"); err != nil {
		return nil, err
	}
	return r, r.bundle(ctx, "sleep", "sleep", "1000000")
}

func runcGroup() string { return "/amphora-bench-" + strconv.Itoa(os.Getpid()) + "-runc" }

// bundle writes the configuration of a container that runs a command.
func (r *runc) bundle(ctx context.Context, name string, args ...string) error {
	dir := r.dir + "/" + name
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	spec := *r.cli
	if err := spec.run(ctx, "spec", "-b", dir); err != nil {
		return err
	}
	data, err := os.ReadFile(dir + "/config.json")
	if err != nil {
		return err
	}
	var config map[string]any
	if err := json.Unmarshal(data, &config); err != nil {
		return err
	}
	process := config["process"].(map[string]any)
	process["terminal"], process["args"] = false, args
	config["root"] = object{"path": r.dir + "/rootfs"}
	config["linux"].(map[string]any)["cgroupsPath"] = runcGroup() + "/" + name
	if data, err = json.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(dir+"/config.json", data, 0o644)
}
