//go:build cgo

// The two processes between a supervisor and a command that it runs in a
// container: see doc.go for why there are two and what each must not do.
//
// The supervisor has many threads, and all of this runs after a fork of one of
// them. So it makes system calls and nothing else: no malloc, no stdio, no
// wrapper of the C library that knows of threads (setuid and its like would
// signal threads that are not there).

#define _GNU_SOURCE
#include "nsexec_linux.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

// Older headers lack these.
#ifndef SYS_clone3
#define SYS_clone3 435
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#define CLEAR_SIGHAND 0x100000000ULL
#define INTO_CGROUP 0x200000000ULL

// 32-bit machines have calls for 16-bit users under the plain names.
#ifdef SYS_setuid32
#define NR_SETUID SYS_setuid32
#define NR_SETGID SYS_setgid32
#define NR_SETGROUPS SYS_setgroups32
#define NR_FCHOWN SYS_fchown32
#else
#define NR_SETUID SYS_setuid
#define NR_SETGID SYS_setgid
#define NR_SETGROUPS SYS_setgroups
#define NR_FCHOWN SYS_fchown
#endif

enum {
	init_fd = 3,
	trampoline_fd = 4,
	mask_size = 8,		// bytes of the kernel's signal set
	join_session_keyring = 1, // of keyctl(2)
	set_mode_filter = 1,	// of seccomp(2)
};

struct clone3_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

// Go raises the soft limit of open files when a program starts, and takes that
// back in programs that it executes. We do the same.
static struct rlimit files_at_start;

__attribute__((constructor)) static void remember_limit(void)
{
	getrlimit(RLIMIT_NOFILE, &files_at_start);
}

__attribute__((noreturn)) static void leave(int status)
{
	for (;;) {
		syscall(SYS_exit_group, status);
		__builtin_trap(); // a filter that forbids to exit
	}
}

__attribute__((noreturn)) static void fail(const struct job *j, int err)
{
	j->report->error = err;
	leave(255);
}

// must ends the process at the current stage if r is an error.
static long must(const struct job *j, long r)
{
	if (r < 0)
		fail(j, errno);
	return r;
}

static void at(const struct job *j, enum stage s) { j->report->stage = s; }

static void put(const struct job *j, const char *path, const char *text)
{
	size_t n = 0;
	long fd = must(j, syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CLOEXEC | O_NOCTTY, 0));

	while (text[n] != 0)
		n++;
	must(j, syscall(SYS_write, fd, text, n));
	syscall(SYS_close, fd);
}

static void install_filter(const struct job *j)
{
	struct sock_fprog program = { j->filter_length, (struct sock_filter *)j->filter };
	long r;

	if (j->filter_length == 0)
		return;
	at(j, STAGE_FILTER);
	r = must(j, syscall(SYS_seccomp, set_mode_filter, j->filter_flags, &program));
	if (r != 0)
		fail(j, ESRCH); // a thread that could not be synchronised: there is none
}

static void drop_bounding(const struct job *j)
{
	for (int c = 0; c <= j->last_cap; c++)
		if (!(j->caps.bounding >> c & 1) && syscall(SYS_prctl, PR_CAPBSET_DROP, c, 0, 0, 0) < 0 && errno != EINVAL)
			fail(j, errno);
}

// own_stdio gives the streams to the user, so that it can open them again
// through /proc. Not being allowed to is no failure.
static void own_stdio(const struct job *j)
{
	struct stat s;

	for (int fd = 0; fd < 3; fd++) {
		if (fstat(fd, &s) < 0)
			fail(j, errno);
		if (s.st_uid == j->uid || (S_ISCHR(s.st_mode) && s.st_rdev == makedev(1, 3)))
			continue;
		if (syscall(NR_FCHOWN, fd, j->uid, -1) < 0 && errno != EPERM && errno != EROFS)
			fail(j, errno);
	}
}

static void set_capabilities(const struct job *j)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++) {
		data[i].effective = j->caps.effective >> 32 * i;
		data[i].permitted = j->caps.permitted >> 32 * i;
		data[i].inheritable = j->caps.inheritable >> 32 * i;
	}
	must(j, syscall(SYS_capset, &header, data));
	if (syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		fail(j, errno);
	for (int c = 0; c <= j->last_cap; c++)
		if (j->caps.ambient >> c & 1)
			syscall(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, c, 0, 0);
}

// inside refuses a directory that cannot be reached from the container's root:
// the kernel then gives a name that does not begin there (CVE-2024-21626).
static void inside(const struct job *j)
{
	char name[PATH_MAX];

	must(j, syscall(SYS_getcwd, name, sizeof name));
	if (name[0] != '/')
		fail(j, EXDEV);
}

// executable is what Go's exec.LookPath thinks of a file.
static int executable(const char *path)
{
	struct stat s;

	if (fstatat(AT_FDCWD, path, &s, 0) < 0)
		return errno;
	if (S_ISDIR(s.st_mode))
		return EISDIR;
	if (syscall(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS) == 0)
		return 0;
	if (errno != ENOSYS && errno != EPERM) // the kernel's or a filter's no to the call itself
		return errno;
	return s.st_mode & 0111 ? 0 : EACCES;
}

static const char *find(const struct job *j)
{
	int err = ENOENT;

	for (const char **p = j->paths; *p != NULL; p++)
		if ((err = executable(*p)) == 0)
			return *p;
	fail(j, err);
}

// become_user changes what a process has of root's into what the command may
// have, in libcontainer's order.
static void become_user(const struct job *j)
{
	int again = 0;

	at(j, STAGE_CWD);
	if (j->cwd != NULL && syscall(SYS_chdir, j->cwd) < 0) {
		if (errno != EACCES && errno != EPERM)
			fail(j, errno);
		again = 1; // the user may where root may not
	}
	if (!j->no_new_privileges)
		install_filter(j); // needs CAP_SYS_ADMIN
	at(j, STAGE_BOUNDING);
	drop_bounding(j);
	at(j, STAGE_USER);
	must(j, syscall(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0));
	own_stdio(j);
	must(j, syscall(NR_SETGROUPS, j->groups_count, j->supplementary));
	must(j, syscall(NR_SETGID, j->gid));
	must(j, syscall(NR_SETUID, j->uid));
	must(j, syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0)); // a change of user sets it to fs.suid_dumpable
	at(j, STAGE_CWD);
	if (again)
		must(j, syscall(SYS_chdir, j->cwd));
	at(j, STAGE_INSIDE);
	inside(j);
	at(j, STAGE_CAPABILITIES);
	must(j, syscall(SYS_prctl, PR_SET_KEEPCAPS, 0, 0, 0, 0));
	set_capabilities(j);
}

struct second {
	const struct job *job;
	const void *mask;
};

// second is the process that becomes the command. It shares the memory of
// first, which sleeps meanwhile.
static int second(void *arg)
{
	const struct second *s = arg;
	const struct job *j = s->job;
	const char *path;

	at(j, STAGE_SESSION);
	must(j, syscall(SYS_setsid));
	at(j, STAGE_KEYRING);
	if (j->keyring != NULL && syscall(SYS_keyctl, join_session_keyring, j->keyring) < 0 && errno != ENOSYS)
		fail(j, errno);
	at(j, STAGE_NO_NEW_PRIVILEGES);
	if (j->no_new_privileges)
		must(j, syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (j->umask >= 0)
		syscall(SYS_umask, j->umask);
	at(j, STAGE_RLIMIT);
	must(j, prlimit(0, RLIMIT_NOFILE, &files_at_start, NULL));
	for (int i = 0; i < j->limits_count; i++)
		must(j, prlimit(0, j->limits[i].what, &j->limits[i].value, NULL));
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, s->mask, NULL, mask_size); // while no filter can refuse it
	become_user(j);
	at(j, STAGE_LOOKUP);
	path = find(j);
	if (j->no_new_privileges)
		install_filter(j); // as few calls as possible are under it
	at(j, STAGE_EXEC);
	j->argv[1] = path;
	syscall(SYS_execveat, trampoline_fd, "", j->argv, j->envp, AT_EMPTY_PATH);
	fail(j, errno);
}

static void place(const struct job *j, int from, int to)
{
	if (from != to)
		must(j, syscall(SYS_dup3, from, to, O_CLOEXEC));
}

// first joins everything and makes second, whose parent is the supervisor.
__attribute__((noreturn)) static void first(const struct job *j, pid_t parent, const void *mask)
{
	static char stack[1 << 16] __attribute__((aligned(16)));
	unsigned char cpus[1024]; // as many as Linux may be built for
	struct second s = { j, mask };

	must(j, syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
	if (syscall(SYS_getppid) != parent)
		fail(j, ESRCH);
	at(j, STAGE_OOM_SCORE);
	if (j->oom_score != NULL)
		put(j, "/proc/self/oom_score_adj", j->oom_score); // root's own file only while dumpable
	must(j, syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0));
	at(j, STAGE_GROUP);
	for (const char **g = j->groups; *g != NULL; g++)
		put(j, *g, "0");
	memset(cpus, 0xff, sizeof cpus);
	syscall(SYS_sched_setaffinity, 0, sizeof cpus, cpus); // the group's, not the supervisor's

	at(j, STAGE_STDIO);
	for (int i = 0; i < 3; i++)
		must(j, syscall(SYS_dup3, j->stdio[i], i, 0));
	place(j, j->init, init_fd);
	place(j, j->trampoline, trampoline_fd);
	at(j, STAGE_CLOSE);
	must(j, syscall(SYS_close_range, trampoline_fd + 1, ~0U, 0));
	at(j, STAGE_NAMESPACES);
	must(j, syscall(SYS_setns, init_fd, j->namespaces));
	must(j, syscall(SYS_close, init_fd));

	at(j, STAGE_CLONE);
	// The number is stored before second runs, so that the supervisor has it
	// whatever happens to either. It is the supervisor's number of the process:
	// first itself stays outside of the pid namespace.
	must(j, clone(second, stack + sizeof stack, CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, &s, &j->report->pid));
	leave(0);
}

pid_t amphora_nsexec(const struct job *j, int *pidfd)
{
	// What Go's runtime handles is default in the child; what is ignored stays
	// so, as it would over execve.
	struct clone3_args args = { .flags = CLONE_PIDFD | CLEAR_SIGHAND, .pidfd = (uintptr_t)pidfd, .exit_signal = SIGCHLD };
	uint64_t all = ~0ULL, mask;
	pid_t parent = syscall(SYS_getpid);
	long pid;
	int err;

	if (j->cgroup >= 0) {
		args.flags |= INTO_CGROUP;
		args.cgroup = j->cgroup;
	}
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, mask_size);
	at(j, STAGE_FORK);
	pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		first(j, parent, &mask);
	err = errno;
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, mask_size);
	return pid < 0 ? -err : pid;
}
