// Command bench compares amphora with docker, podman and runc on one machine,
// in one run, and prints one table:
//
//	go run . [-rows run,exec,...] [-n 20] [-quick] [-peers docker,podman,runc]
//
// What is compared is like for like: command line against command line and API
// against API, the same image, no network, full default security on our side.
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
// in the end, also after an interrupt.
package main
