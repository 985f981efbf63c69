#ifndef AMPHORA_NSEXEC_H
#define AMPHORA_NSEXEC_H

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

// What a process does in order; its report names the one that failed. The list
// stands in nsexec_linux.go as well.
enum stage {
	STAGE_FORK = 1,
	STAGE_OOM_SCORE,
	STAGE_GROUP,
	STAGE_STDIO,
	STAGE_CLOSE,
	STAGE_NAMESPACES,
	STAGE_CLONE,
	STAGE_SESSION,
	STAGE_KEYRING,
	STAGE_NO_NEW_PRIVILEGES,
	STAGE_RLIMIT,
	STAGE_CWD,
	STAGE_FILTER,
	STAGE_BOUNDING,
	STAGE_USER,
	STAGE_INSIDE,
	STAGE_CAPABILITIES,
	STAGE_LOOKUP,
	STAGE_EXEC,
};

// A report is in memory that supervisor and child share: it needs no
// descriptor, and no system call that a filter could refuse.
struct report {
	volatile int32_t pid;	// of the command, as the supervisor sees it
	volatile int32_t stage;
	volatile int32_t error;	// 0, or the errno of the stage
};

struct limit {
	int32_t what;
	struct rlimit value;
};

struct capability_sets {
	uint64_t bounding, effective, permitted, inheritable, ambient;
};

// All pointers of a job are valid in the supervisor's memory at the fork.
struct job {
	struct report *report;
	const char *oom_score;	// NULL: as the supervisor's
	const char **groups;	// tasks files of cgroup v1, ends with NULL
	int cgroup;		// directory of cgroup v2; -1: none
	int init;		// pidfd of a process in the namespaces
	int namespaces;		// CLONE_NEW*
	int stdio[3];		// 3 or more
	const char *keyring;	// NULL: stay in the supervisor's session keyring
	int no_new_privileges;
	int umask;		// -1: as the supervisor's
	int limits_count;
	const struct limit *limits;
	const char *cwd;	// NULL: the root
	uint32_t uid, gid;
	int groups_count;
	const uint32_t *supplementary;
	int last_cap;
	struct capability_sets caps;
	unsigned short filter_length; // in instructions; 0: unconfined
	const void *filter;
	unsigned int filter_flags;
	const char **paths;	// where the command may be, ends with NULL
	const char **argv;	// "\1", the place of the path found, the arguments
	char *const *envp;
	int trampoline;		// descriptor
};

// amphora_nsexec forks the child that becomes the command. It returns the
// number of an intermediate process, which ends once the command runs or has
// failed, and a pidfd of it; or -errno, and then nothing was started.
pid_t amphora_nsexec(const struct job *job, int *pidfd);

// amphora_trampoline_file makes the file that executes the command.
int amphora_trampoline_file(void);

#endif
