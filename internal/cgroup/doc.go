// Package cgroup finds, empties and removes control groups by plain file
// operations: recovery needs no runtime library and no process of the
// container to do so.
//
// Paths are absolute and the same in every hierarchy of cgroup v1.
package cgroup
