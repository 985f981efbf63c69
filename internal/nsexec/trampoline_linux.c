//go:build cgo

// A program of a few instructions that executes the command, in a sealed file
// without a name.
//
// Until execve a process's /proc/self/exe is the program that it came from:
// here the supervisor's, a file of the host. A command that is a link to
// /proc/self/exe, or a script or program whose interpreter is, would have the
// kernel execute that file inside the container, whose processes could then
// open and overwrite it (CVE-2019-5736). So the supervisor's child executes
// the trampoline, and that the command.

#define _GNU_SOURCE
#include "nsexec_linux.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

extern const char amphora_trampoline[], amphora_trampoline_end[];

// The first argument begins with the byte 1, lest the command be the trampoline
// itself, for ever; then comes the command's file, then its arguments. If execve
// fails the status is the shell's: 127 for what is missing, else 126.
__asm__(".pushsection .rodata\n"
	".globl amphora_trampoline\n.globl amphora_trampoline_end\n"
	"amphora_trampoline:\n"
#if defined(__x86_64__) && defined(__LP64__)
#define MACHINE EM_X86_64
	"mov (%rsp), %rcx\n"		// argc
	"mov 8(%rsp), %rdi\n"
	"mov $-1, %eax\n"
	"cmpb $1, (%rdi)\n"
	"jne 1f\n"
	"mov 16(%rsp), %rdi\n"
	"lea 24(%rsp), %rsi\n"
	"lea 16(%rsp,%rcx,8), %rdx\n"	// the environment follows a NULL
	"mov $59, %eax\n"		// execve
	"syscall\n"
	"1: mov $126, %edi\n"
	"mov $127, %ecx\n"
	"cmp $-2, %eax\n"		// ENOENT
	"cmove %ecx, %edi\n"
	"mov $231, %eax\n"		// exit_group
	"syscall\n"
	"ud2\n"
#elif defined(__aarch64__) && defined(__LP64__)
#define MACHINE EM_AARCH64
	"ldr x9, [sp]\n"
	"ldr x1, [sp, #8]\n"
	"ldrb w1, [x1]\n"
	"mov x0, #-1\n"
	"cmp w1, #1\n"
	"b.ne 1f\n"
	"ldr x0, [sp, #16]\n"
	"add x1, sp, #24\n"
	"add x2, sp, #16\n"
	"add x2, x2, x9, lsl #3\n"
	"mov x8, #221\n"
	"svc #0\n"
	"1: cmn x0, #2\n"
	"mov w1, #126\n"
	"mov w0, #127\n"
	"csel w0, w0, w1, eq\n"
	"mov x8, #94\n"
	"svc #0\n"
	"brk #0\n"
#endif
	"amphora_trampoline_end:\n"
	".popsection\n");

// amphora_trampoline_file returns the sealed file, or -errno: ENOSYS for a
// machine that has no instructions here.
int amphora_trampoline_file(void)
{
#ifndef MACHINE
	return -ENOSYS;
#else
	enum { base = 0x400000, page = 0x10000 };
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	struct {
		Elf64_Ehdr file;
		Elf64_Phdr code, stack;
		char text[128];
	} elf;
	size_t length = amphora_trampoline_end - amphora_trampoline;
	size_t size = sizeof elf - sizeof elf.text + length;
	int fd, err;

	if (length > sizeof elf.text)
		return -E2BIG;
	memset(&elf, 0, sizeof elf);
	memcpy(elf.file.e_ident, ELFMAG, SELFMAG);
	elf.file.e_ident[EI_CLASS] = ELFCLASS64;
	elf.file.e_ident[EI_DATA] = ELFDATA2LSB;
	elf.file.e_ident[EI_VERSION] = EV_CURRENT;
	elf.file.e_type = ET_EXEC;
	elf.file.e_machine = MACHINE;
	elf.file.e_version = EV_CURRENT;
	elf.file.e_entry = base + sizeof elf - sizeof elf.text;
	elf.file.e_phoff = sizeof elf.file;
	elf.file.e_ehsize = sizeof elf.file;
	elf.file.e_phentsize = sizeof elf.code;
	elf.file.e_phnum = 2;
	elf.code = (Elf64_Phdr){ .p_type = PT_LOAD, .p_flags = PF_R | PF_X, .p_vaddr = base, .p_paddr = base,
		.p_filesz = size, .p_memsz = size, .p_align = page };
	elf.stack = (Elf64_Phdr){ .p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W, .p_align = 16 };
	memcpy(elf.text, amphora_trampoline, length);

	fd = memfd_create("exec", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
	if (fd < 0 && errno == EINVAL) // before Linux 6.3 all are executable
		fd = memfd_create("exec", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	errno = EIO;
	if (write(fd, &elf, size) != (ssize_t)size || fchmod(fd, 0555) < 0 || fcntl(fd, F_ADD_SEALS, seals) < 0) {
		err = errno;
		close(fd);
		return -err;
	}
	return fd;
#endif
}
