package main

import (
	"fmt"
	"strings"
)

// goal is a ratio that amphora has set itself.
type goal struct {
	text         string
	title        string // part of the result's
	kind         string
	theirs, ours string
	least        float64 // theirs divided by ours shall be at least this
}

// The numbers are those of the project's plan.
var goals = []goal{
	{"run 5 times faster than docker run", titleRun, command, "docker run", nameCLI, 5},
	{"run 5 times faster than docker's API", titleRun, api, "docker API", nameLibrary, 5},
	{"run at most 1.6 times as long as runc run", titleRun, command, "runc run, no seccomp", nameCLI, 1 / 1.6},
	{"the same, library from a fresh process", titleRun, command, "runc run, no seccomp", nameFresh, 1 / 1.6},
	{"exec 6 times faster than docker exec", titleExec, command, "docker exec", nameCLI, 6},
	{"exec 6 times faster than docker's API", titleExec, api, "docker API", nameLibrary, 6},
	{"pull and unpack 2 times faster than docker pull", titlePull, command, "docker pull", nameCLI, 2},
	{"pull and unpack 2 times faster than docker's API", titlePull, api, "docker API", nameLibrary, 2},
	{"pull and unpack 2 times faster than podman pull", titlePull, command, "podman pull", nameCLI, 2},
	{"pull and unpack zstd 3 times faster than docker pull", titleZstd, command, "docker pull", nameCLI, 3},
	{"pull and unpack zstd 3 times faster than podman pull", titleZstd, command, "podman pull", nameCLI, 3},
	{"push 2 times faster than docker push", titlePush, command, "docker push", nameCLI, 2},
	{"push 2 times faster than docker's API", titlePush, api, "docker API", nameLibrary, 2},
	{"save 2 times faster than docker save", titleSave, command, "docker save", nameCLI, 2},
	{"save 2 times faster than docker's API", titleSave, api, "docker API", nameLibrary, 2},
	{"load 2 times faster than docker load", titleLoad, command, "docker load", nameCLI, 2},
	{"load 2 times faster than docker's API", titleLoad, api, "docker API", nameLibrary, 2},
	{"log lines, one write each, 3 times dockerd's rate", titleLogs + "one write each", command, "docker run", nameCLI, 3},
	{"connect and disconnect 20 times faster than docker network", titleConnect, command, "docker network", nameCLI, 20},
	{"connect and disconnect 20 times faster than docker's API", titleConnect, api, "docker API", nameLibrary, 20},
	{"attach and detach a namespace 20 times faster than docker's API", titleConnect, api, "docker API", nameBare, 20},
	{"run with a published port 6 times faster than docker run", titleBridge, command, "docker run", nameCLI, 6},
	{"run with a published port 6 times faster than docker's API", titleBridge, api, "docker API", nameLibrary, 6},
	{"container to container at least docker0's rate (5 % is noise)", titleTrafficAcross, command, "docker", nameCLI, 0.95},
	{"127.0.0.1:port at least docker's rate (5 % is noise)", titleTrafficPort, command, "docker", nameCLI, 0.95},
	{"local names 1.5 times the rate of docker's resolver", titleNames, command, "docker", nameCLI, 1.5},
	{"build, everything, 2 times faster than docker's BuildKit", titleBuildAll, command, "docker build, BuildKit", nameCLI, 2},
	{"build, everything, 2 times faster than docker's API", titleBuildAll, api, "docker API, classic builder", nameLibrary, 2},
	{"build, unchanged, 4 times faster than docker's BuildKit", titleBuildSame, command, "docker build, BuildKit", nameCLI, 4},
	{"build, unchanged, 4 times faster than docker's API", titleBuildSame, api, "docker API, classic builder", nameLibrary, 4},
	{"log lines, in blocks, 3 times dockerd's rate", titleLogs + "written", command, "docker run", nameCLI, 3},
}

// judge compares the results with the goals that they let judge.
func judge(results []*result) []string {
	var lines []string
	for _, g := range goals {
		for _, r := range results {
			theirs, ours := r.find(g.theirs, g.kind), r.find(g.ours, g.kind)
			if !strings.Contains(r.Title, g.title) || theirs == nil || ours == nil {
				continue
			}
			ratio := theirs.median() / ours.median()
			lines = append(lines, line(ratio >= g.least, g.text, fmt.Sprintf("%s / %s = %.2f, wanted %.2f", g.theirs, g.ours, ratio, g.least)))
		}
	}
	for _, r := range results {
		lines = append(lines, r.Goals...)
	}
	return lines
}

func line(ok bool, goal, found string) string {
	mark := "met"
	if !ok {
		mark = "MISSED"
	}
	return mark + "\t" + goal + "\t" + found
}
