/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */
/*
 * A program to be recorded: it makes the calls that ordinary programs make
 * seldom, so that a recording of it asks sheaf-replay for every rule of
 * doc/trace.md.  Each step says what the kernel does to the map.  Steps that the
 * kernel refuses (an old kernel, say) are no error: a refused call changes
 * nothing, which the recording then proves.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

static char *anon(size_t pages)
{
	char *p = mmap(NULL, pages * PAGE, RW, ANON, -1, 0);

	if (p == MAP_FAILED)
		_exit(1);
	return p;
}

/* Cut a mapping in pieces, change the pieces, fail over a hole. */
static void split(void)
{
	char *p = anon(16);
	int done = 0;

	done |= munmap(p + 4 * PAGE, 2 * PAGE);
	done |= mprotect(p + PAGE, 2 * PAGE, PROT_READ);
	done |= mprotect(p, 4 * PAGE, PROT_NONE);
	/* ENOMEM, and yet the pages before the hole are changed. */
	done |= mprotect(p + 2 * PAGE, 6 * PAGE, PROT_READ);
	done |= mprotect(p + 7 * PAGE, 5 * PAGE, PROT_READ | PROT_EXEC);
	/* Over the hole and two pieces: no error. */
	done |= munmap(p + 3 * PAGE, 6 * PAGE);
	/* Where nothing is: no error either. */
	done |= munmap(p + 4 * PAGE, PAGE);
	(void)done;
}

static void remap(void)
{
	char *p = anon(8), *q = anon(8), *shared;

	p = mremap(p, 8 * PAGE, 3 * PAGE, 0);
	if (p == MAP_FAILED)
		return;
	p = mremap(p, 3 * PAGE, 4 * PAGE, 0);
	if (p == MAP_FAILED)
		return;
	p = mremap(p, 4 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return;
	/* Onto an existing mapping, which it replaces; the rest is cut off. */
	q = mremap(q, 8 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		   p + 8 * PAGE);
	if (q == MAP_FAILED)
		return;
	mremap(q, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
	       NULL);
	/* Two mappings in one call: refused before Linux 6.17. */
	mprotect(p, 2 * PAGE, PROT_READ);
	q = anon(16);
	mremap(p, 8 * PAGE, 8 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, q);
	/* Old length 0: a second view of a shared mapping. */
	shared = mmap(NULL, 4 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared != MAP_FAILED)
		mremap(shared, 0, 2 * PAGE, MREMAP_MAYMOVE);
}

static void place(void)
{
	char *p = anon(8), *end;

	mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	munmap(p, 4 * PAGE);
	mmap(p, 2 * PAGE, PROT_READ, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	mmap(p, PAGE, RW, ANON, -1, 0);
	mmap(p + 3 * PAGE, PAGE, RW, ANON, -1, 0);
	mmap(p + PAGE, 5 * PAGE, PROT_READ, ANON | MAP_FIXED, -1, 0);
	mmap(p, (size_t)1 << 62, RW, ANON, -1, 0);
#ifdef MAP_32BIT
	mmap(NULL, 3 * PAGE, RW, ANON | MAP_32BIT, -1, 0);
#endif
	mmap(NULL, (size_t)4 << 20, RW, ANON, -1, 0);
	mmap(NULL, 5000, RW, ANON, -1, 0);
	end = sbrk(0);
	if (brk(end + 20 * PAGE + 100) == 0)
		(void)!brk(end + 3 * PAGE + 7);
}

/* The stack grows by faults alone, in leaps that no call shows. */
static int deep(int level)
{
	volatile char room[16384];

	memset((char *)(uintptr_t)room, level, sizeof(room));
	return level ? deep(level - 1) + room[level] : room[0];
}

static void await(pid_t child)
{
	if (child > 0)
		waitpid(child, NULL, 0);
}

static void *exec_true(void *arg)
{
	execl("/bin/true", "true", (char *)NULL);
	return arg;
}

static void *last_thread(void *arg)
{
	pthread_join(*(pthread_t *)arg, NULL);
	anon(5);
	syscall(SYS_exit, 0);
	return NULL;
}

/* Ends of a process other than the usual one. */
static void children(void)
{
	static pthread_t first;
	pthread_t thread;
	char *kept = anon(8);
	pid_t child;

	madvise(kept + 2 * PAGE, 3 * PAGE, MADV_DONTFORK);
	child = fork();
	if (!child) {
		munmap(kept, PAGE);
		deep(40);
		_exit(0);
	}
	await(child);
	madvise(kept + 2 * PAGE, PAGE, MADV_DOFORK);
	child = fork();
	if (!child) {
		char *top = (char *)((uintptr_t)&child & ~(PAGE - 1));

		mprotect(top, PAGE, RW | PROT_EXEC | PROT_GROWSDOWN);
		_exit(0);
	}
	await(child);
	child = fork();
	if (!child) {
		if (!pthread_create(&thread, NULL, exec_true, NULL))
			pthread_join(thread, NULL);
		_exit(1);
	}
	await(child);
	child = fork();
	if (!child) {
		first = pthread_self();
		if (pthread_create(&thread, NULL, last_thread, &first))
			_exit(1);
		syscall(SYS_exit, 0);
	}
	await(child);
	child = fork();
	if (!child) {
		anon(3);
		raise(SIGKILL);
	}
	await(child);
	child = vfork();
	if (!child)
		_exit(3);
	await(child);
}

int main(void)
{
	split();
	remap();
	place();
	children();
	return deep(60) == -1;
}
