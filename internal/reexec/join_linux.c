// A container's process joins its control groups of cgroup v1 here, by itself
// and before anything else: as the one thread of a fresh process, before the Go
// runtime and before libcontainer's own constructor (101 is the first priority
// that programs may use; nsexec has none and so runs later).
//
// A process that moves another one, or a whole thread group, takes a lock of
// the kernel that waits for a grace period of RCU, 5 to 8 ms. A thread that
// moves itself does not (cgroup_procs_write_start in kernel/cgroup/cgroup.c).

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { orders = 3, max_groups = 1 << 16 };

struct header { // as Encode makes it
	char magic[8];
	uint32_t flags, groups, program, command;
};

static int joined;

// amphora_joined says whether this process, or the one that it was cloned
// from, joined all groups that it was told to.
int amphora_joined(void) { return joined; }

// fail ends the process: nothing may run outside of its groups. The shim reads
// the reason where it reads libcontainer's.
static void fail(const char *path, int err)
{
	const char *fd = getenv("_LIBCONTAINER_LOGPIPE");
	char name[256];
	size_t n = 0;

	for (; path[n] != 0 && n + 1 < sizeof name; n++)
		name[n] = path[n] == '"' || path[n] == '\\' || (unsigned char)path[n] < ' ' ? '?' : path[n];
	name[n] = 0;
	if (fd != NULL)
		dprintf(atoi(fd), "{\"level\":\"fatal\",\"msg\":\"join the control group %s: %s\"}\n", name, strerror(err));
	_exit(1);
}

static void join_one(const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 || write(fd, "0", 1) != 1)
		fail(path, errno);
	close(fd);
}

__attribute__((constructor(101))) static void join_groups(void)
{
	struct header h;
	char *names, *p;

	if (getenv("_LIBCONTAINER_INITPIPE") == NULL)
		return;
	if (pread(orders, &h, sizeof h, 0) != sizeof h || memcmp(h.magic, "AMPHORA\002", sizeof h.magic) != 0)
		return; // a container of somebody else in the same program
	if (h.groups == 0)
		return;
	if (h.groups > max_groups || (names = malloc(h.groups)) == NULL)
		fail("", ENOMEM);
	if (pread(orders, names, h.groups, sizeof h) != (ssize_t)h.groups || names[h.groups - 1] != 0)
		fail("", EINVAL);
	for (p = names; p < names + h.groups; p += strlen(p) + 1)
		join_one(p);
	free(names);
	joined = 1;
}
