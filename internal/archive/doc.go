// Package archive reads and writes tar streams of file trees.
//
// [Apply] unpacks one layer into a directory. Every name is resolved by the
// kernel, or component by component on descriptors, inside that directory:
// absolute names, "..", symbolic links and hard links cannot leave it,
// whoever wrote the archive. [Settle] finishes a layer that was unpacked
// without sight of the layers below it. [Create] is the way back, [ReadInRoot] reads one file.
// [Decompress] finds out what a stream is compressed with.
//
// # Layers seen one at a time
//
// Layers of an image are unpacked in parallel, so an unpacking layer cannot
// see the ones below. Three things would go wrong without care: an entry
// "d/f" without "d/" would give d a default mode and hide the lower one; an
// entry "lib/x" where a lower layer has "lib -> usr/lib" would replace the
// link by a directory; a hard link to a lower file has no target. Apply with
// [ApplyOptions.Isolated] therefore records what it had to assume in
// [Applied], and Settle, run bottom to top before a layer is published, makes
// the layer what it would have been had it been unpacked on the mounted lower
// layers. In the few cases where the outcome depends on the order of entries,
// which is gone by then, Settle returns [ErrReapply]: empty the directory and
// apply the layer again with [ApplyOptions.Lowers], which is exact always.
package archive
