package main

import (
	"fmt"
	"iter"
	"os"
	"strings"
)

// environment reads files of KEY=value lines and lays pairs over them. A KEY
// alone gets the value it has in this program, if any.
func environment(files, pairs []string) ([]string, error) {
	var env []string
	for _, file := range files {
		lines, err := readLines(file)
		if err != nil {
			return nil, err
		}
		env = append(env, lines...)
	}
	env = append(env, pairs...)
	for i, pair := range env {
		if v, ok := os.LookupEnv(pair); ok && !strings.Contains(pair, "=") {
			env[i] = pair + "=" + v
		}
	}
	return env, nil
}

func labels(files, pairs []string) (map[string]string, error) {
	all := map[string]string{}
	for _, file := range files {
		lines, err := readLines(file)
		if err != nil {
			return nil, err
		}
		pairs = append(lines, pairs...)
	}
	for _, pair := range pairs {
		key, v, _ := strings.Cut(pair, "=")
		if key == "" {
			return nil, fmt.Errorf("label %q: give KEY=VALUE", pair)
		}
		all[key] = v
	}
	return all, nil
}

// driverOptions reads KEY=VALUE pairs.
func driverOptions(pairs []string) (map[string]string, error) {
	all := map[string]string{}
	for _, pair := range pairs {
		key, v, _ := strings.Cut(pair, "=")
		if key == "" {
			return nil, fmt.Errorf("option %q: give KEY=VALUE", pair)
		}
		all[key] = v
	}
	return all, nil
}

// separated are the values of a flag that takes several, with commas between
// or by standing several times.
func separated(values []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range values {
			for part := range strings.SplitSeq(v, ",") {
				if !yield(strings.TrimSpace(part)) {
					return
				}
			}
		}
	}
}

// readLines returns the lines of a file without comments and empty ones.
func readLines(file string) (lines []string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for l := range strings.Lines(string(data)) {
		if l = strings.TrimLeft(strings.TrimRight(l, "\r\n"), " \t"); l != "" && l[0] != '#' {
			lines = append(lines, l)
		}
	}
	return lines, nil
}
