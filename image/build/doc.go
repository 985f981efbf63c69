// Package build makes images from Dockerfiles, in this process: BuildKit's own
// frontend reads them, and a solver of ours executes the steps, those that do
// not need each other at once, in containers under the same supervisor, security
// and networks as all others.
//
//	b, err := build.New(eng.Images(), nil)
//	...
//	res, err := b.Build(ctx, &build.Request{
//		Context: build.Context{Dir: "."},
//		Tags:    []string{"shop:latest"},
//	})
//
// What was built is remembered in the store, by content: builds in any number of
// processes share it, each step is executed once for all of them, and a build of
// what has not changed looks at its context and executes nothing. A change
// executes what depends on it.
package build
