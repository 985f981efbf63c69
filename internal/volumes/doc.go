// Package volumes keeps volumes on disk.
//
// A volume is a directory Root/volumes/<name>:
//
//	lock         flock, exclusive: whoever makes, mends or removes the volume
//	lease        flock, shared: held by whoever creates a container with it
//	record.json  what it is (Volume); carries the number of its last event
//	removing     an empty file: removal was decided, whoever finds it finishes it
//	pending      an empty file: anonymous, and its container is not made yet
//	data/        the content: what containers have mounted
//	fill, fill-new, fill.lock   copy-up in progress (see CopyUp)
//
// Root/volumes itself is mode 0700: setuid programs and world-writable
// directories in volumes are not for the host's other users.
//
// # In use
//
// A volume is in use by each container whose record names it. A container
// being created has no record yet, so [Store.Ensure] returns with the lease
// held shared, and the creator releases it after the record is written.
// [Store.Remove] takes lock, then the lease exclusively without waiting (a
// failure means that a container is being created), then reads the records:
// every container that can have the volume is seen by one of the two. A killed
// creator drops its lease with its life.
//
// Both locks are needed: the lease is taken only under lock, so that it is
// never held for a moment by somebody who only asks, and a remover never takes
// another remover for a creator.
//
// Lock order: a container's lock, lock, lease, journal. Nobody waits for a
// lease, and nobody holds two volumes' locks but Prune, which waits for none.
//
// # Kills
//
// A directory without record.json whose lock is free was left by a killed
// creator: whoever lists removes it, whoever creates goes on with it. A
// directory that holds data is never removed that way. An event that was
// logged is completed, and what was not logged is dropped
// ([journal.Journal.Settle]).
package volumes
