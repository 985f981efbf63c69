// Command bench compares amphora with docker, podman and runc on one machine,
// in one run, and prints one table:
//
//	go run . [-rows run,exec,...] [-n 20] [-quick] [-peers docker,podman,runc]
//
// What is compared is like for like: command line against command line and API
// against API, the same image, full default security on our side, and no network
// but in the rows that are about networks.
// The runs of all contenders are interleaved and their order rotates, so that a
// disturbance of the machine meets them all alike; trust the ratios of one
// table, not milliseconds of two. Every sample is kept in out/*.json.
//
// "library" is program/run and its neighbours: programs of about 20 lines that
// import nothing of this module but its root. "amphora" is examples/amphora,
// "amphora -helper" the same with cmd/amphora-helper as its helper program.
// The peers are Debian's packages (docker.io, podman, runc, docker-registry),
// installed when missing and this runs as root. The Docker daemon runs in
// network and mount namespaces of its own and touches nothing of one that the
// machine has. All that is made lies in one temporary directory and is removed
// in the end, also after an interrupt. What does not survive a reboot lies on
// tmpfs, as it does below /run.
//
// "pull", "zstd", "push", "save" and "resume" move one large image; the
// registry that is pushed to has forgotten everything before each sample, and
// what "resume" pulls through is a proxy that counts and cuts.
//
// Rows about networks give every contender a network namespace like a host's of
// its own: no rules of others, no uplink. "connect" is a further network for a
// running container; "bridge" is "run" with an interface and a published port;
// "attach" is many bare namespaces, from new processes on an empty host; "scale"
// is one more connection where there are few and many; "throughput" is TCP over
// the bridge and through a port of 127.0.0.1; "names" is the resolver inside a
// container. What sends, receives and asks is program/traffic, which is part of
// the image, and takes its own time.
package main
