// Package e2e holds suites that drive amphora from outside, as its users'
// programs and clients do. Run them by "make e2e", as root; docs/e2e.md says
// which there are and when they last passed. What a suite wants installed it
// names when it skips.
package e2e
