// Package netlab builds networks of bare namespaces for tests: hosts, bridges
// and containers joined by veth pairs, with servers that say who asked them.
// All of it goes with the test.
package netlab
