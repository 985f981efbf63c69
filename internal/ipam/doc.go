// Package ipam gives out the addresses of networks. What it keeps on disk is
// host-local's format, so that the plugin of that name can go on with what we
// began and the other way round: <dir>/<network>/<address> holds
// "id\r\ninterface", "lock" is held by flock while anything changes, and
// last_reserved_ip.<n> is where the next search of range set n starts.
//
// Beside it, in <dir>/.index/<network>/<id>:<interface>, stands which addresses
// an attachment has, so that releasing them costs the same with ten leases and
// with ten thousand. The lease files are the truth; the index is written before
// them and removed after them.
//
// Lease files appear complete, by link(2). An empty one is what a killed
// host-local left; it counts as free.
package ipam
