// Package seccomp turns the seccomp profile of a container into a program for
// the kernel, without libseccomp and without cgo, and keeps such programs in a
// directory so that only the first container with a profile pays for it.
//
// [Default] and [Parse] resolve Docker's profiles against a container's
// capabilities, this machine's architecture and its kernel. [Compile] makes
// the program, [Cached] does so once for each profile and names the file,
// [Decode] reads such a file, and [Install] gives a program to the kernel for
// the calling thread.
//
// # Meaning of a profile
//
// It is that of runc 1.5 with libseccomp, tested against it:
//
//   - Names that an ABI does not have are ignored there.
//   - A rule whose action is the default action is ignored.
//   - All comparisons of a rule must hold; but if one argument is compared
//     twice, each comparison is a rule of its own (any may hold).
//   - An unconditional rule overrides every conditional one of the same
//     system call, and the first of several unconditional ones counts.
//     Likewise a rule overrides those that begin with the same comparisons
//     and add more.
//   - If several of the remaining rules match, libseccomp documents their
//     union only; here the most restrictive action is taken.
//   - 32-bit ABIs, x32 among them, compare the low 32 bits of an argument. Of
//     SCMP_CMP_MASKED_EQ's second value only the bits of the mask count.
//   - On i386 a rule for a socket or System V IPC call holds for socketcall
//     and ipc too, with its condition on the first argument replaced, since
//     their arguments lie behind a pointer.
//   - A call from an ABI that the profile does not list kills the thread.
//   - Unless the default action is allow, log or trace, numbers above the
//     highest one that the profile names give ENOSYS, so that programs fall
//     back when they are newer than the profile.
//
// SCMP_ACT_NOTIFY needs an agent and is refused. So is a profile that blocks
// what the runtime itself must do between installing the filter and starting
// the program, see [Required].
package seccomp

//go:generate go run gen.go
