/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#define _GNU_SOURCE
#include "base/rseq.h"

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/membarrier.h"
#include "base/probe.h"
#include "base/report.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

ptrdiff_t rseq_offset;

#ifdef RSEQ_BUILT

#if defined(__x86_64__)
#define SIGNATURE 0x53053053
#else
#define SIGNATURE 0xd428bc00
#endif

/* The length that every kernel with rseq(2) takes. */
#define AREA_BYTES 32

/* Where the C library registers areas it says so by these; weak, for those that do not. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

/* Ours; initial-exec puts it at the same distance from every thread pointer. */
static __thread struct rseq_area own __attribute__((tls_model("initial-exec"))) = {
	.cpu_id = RSEQ_CPU_UNREGISTERED,
};

enum { UNKNOWN, READY, REFUSED };
static int state = UNKNOWN;
static bool area_is_own;
static const char *reason = "not asked yet";

static long membarrier(int command)
{
	return syscall(__NR_membarrier, command, 0, 0);
}

static bool fence_register(void)
{
	return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ) == 0 &&
	       membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ) == 0;
}

/* Several threads may come here at once: all find and store the same. */
static int ask(const char **why)
{
	if (&__rseq_size && load_relaxed(&__rseq_size)) {
		store_relaxed(&rseq_offset, __rseq_offset);
		if (load_relaxed(&rseq_self()->cpu_id) >= RSEQ_CPU_REFUSED) {
			*why = "the C library could not register this thread for rseq(2)";
			return REFUSED;
		}
		*why = "rseq(2), registered by the C library";
	} else {
		store_relaxed(&rseq_offset, (char *)&own - (char *)__builtin_thread_pointer());
		store_relaxed(&area_is_own, true);
		rseq_thread_register();
		if (load_relaxed(&own.cpu_id) >= RSEQ_CPU_REFUSED) {
			*why = "rseq(2) refused: not in this kernel, filtered, or in other hands";
			return REFUSED;
		}
		*why = "rseq(2), registered by the library";
	}
	if (!fence_register()) {
		*why = "membarrier(2) has no fence for rseq here, or it is filtered";
		return REFUSED;
	}
	return READY;
}

bool rseq_ready(const char **why)
{
	int s = load_acquire(&state);

	if (s == UNKNOWN) {
		const char *found;

		s = ask(&found);
		store_relaxed(&reason, found);
		/* release: offset and reason are there for whoever sees the state */
		store_release(&state, s);
	}
	*why = load_relaxed(&reason);
	return s == READY;
}

bool rseq_thread_register(void)
{
	int saved = errno;
	bool done;

	if (!load_relaxed(&area_is_own) || load_relaxed(&own.cpu_id) != RSEQ_CPU_UNREGISTERED)
		return false;
	done = syscall(__NR_rseq, &own, AREA_BYTES, 0, SIGNATURE) == 0;
	/* Else a handler that interrupted us may have done it. */
	if (!done && load_relaxed(&own.cpu_id) == RSEQ_CPU_UNREGISTERED)
		store_relaxed(&own.cpu_id, RSEQ_CPU_REFUSED);
	errno = saved;
	return load_relaxed(&own.cpu_id) < RSEQ_CPU_REFUSED;
}

void rseq_fence(void)
{
	PROBE(fence, 1);
	if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ) != 0)
		membarrier_walk();
}

void rseq_fork_child(void)
{
	/* If it is refused, so will be the fence, and that is made by hand. */
	if (load_relaxed(&state) == READY)
		(void)fence_register();
}

#else

bool rseq_ready(const char **why)
{
	*why = "no rseq(2) in this build: machine or compiler not supported, or ThreadSanitizer";
	return false;
}

bool rseq_thread_register(void)
{
	return false;
}

void rseq_fence(void)
{
	fatal("rseq_fence() in a build without sequences");
}

void rseq_fork_child(void)
{
}

#endif
