/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#define _GNU_SOURCE
#include "base/membarrier.h"

#include "base/atomic.h"
#include "base/report.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

static long membarrier(int command)
{
	return syscall(__NR_membarrier, command, 0, 0);
}

enum { UNKNOWN, READY, REFUSED };
static int state = UNKNOWN;

bool membarrier_ready(void)
{
	int s = load_relaxed(&state);

	if (s == UNKNOWN) {
		long commands = membarrier(MEMBARRIER_CMD_QUERY);

		s = REFUSED;
		if (commands > 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) &&
		    membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 &&
		    membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0)
			s = READY;
		store_relaxed(&state, s);
	}
	return s == READY;
}

/* A registered process is never refused, unless a seccomp filter came later. */
void membarrier_all(void)
{
	if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0)
		fatal("membarrier(2) refused after registration (errno %d)", errno);
}

void membarrier_fork_child(void)
{
	if (load_relaxed(&state) == READY &&
	    membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0)
		fatal("membarrier(2) refused in a child (errno %d)", errno);
}
