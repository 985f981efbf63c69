// Package nsexec starts a command in the namespaces and control groups of a
// running container, from a supervisor with threads, without executing this
// program again: that is what costs an exec the most.
//
// Start forks an intermediate process, as a plain fork: it has memory of its
// own, so that nothing it does, or that is done to it, reaches the supervisor.
// It makes itself undumpable, joins the control groups, closes whatever is not
// the command's, joins the namespaces, and clones the process that becomes the
// command as a child of the supervisor. That one shares the intermediate's
// memory until execve, while the intermediate sleeps.
//
// From the clone on a process of ours is visible in the container's pid
// namespace, with memory of the supervisor's and all capabilities. The kernel
// lets a process of the container look into it or attach to it only with
// CAP_SYS_PTRACE, since it is undumpable and, until it has dropped its own, has
// more capabilities; the caller must not use this package where a process may
// have that. It holds no descriptor but the command's streams and the
// trampoline.
//
// Until execve the process's /proc/self/exe is the supervisor's program, a file
// of the host that the container must not reach (CVE-2019-5736). So what it
// executes is a trampoline, a sealed file of some instructions, and that
// executes the command. It is found before, but whether the kernel can execute
// it only the exit status says: 127 if its interpreter is missing, else 126.
//
// The report is in a page of memory that supervisor and child share, so a
// filter cannot suppress it and nobody inside can write it.
package nsexec
