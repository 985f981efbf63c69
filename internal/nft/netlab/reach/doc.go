// Package reach asks who reaches what in a world of containers on several
// networks, a host, and somebody outside, and compares it with what should be.
// Whoever uses it says how networks and containers are made: package amphora's
// tests, and the suite e2e/network, beside other container engines.
package reach
