/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#define _GNU_SOURCE
#include "base/membarrier.h"

#include "base/atomic.h"
#include "base/probe.h"
#include "base/report.h"
#include "base/topology.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
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

/* True once the caller has been there; false if it may not: then it is taken for one where no thread of the program
 * runs, as in a container with a set of CPUs. Another thread may send us elsewhere. */
static bool visit(unsigned cpu)
{
	cpu_set_t there;
	int at;

	CPU_ZERO(&there);
	CPU_SET(cpu, &there);
	do {
		if (sched_setaffinity(0, sizeof(there), &there))
			return false;
		at = sched_getcpu();
	} while (at >= 0 && at != (int)cpu);
	return at >= 0;
}

void membarrier_walk(void)
{
	unsigned cpus = topology_cpus(), cpu, visited = 0;
	int saved = errno;
	cpu_set_t may;

	PROBE(fence_walk, cpus);
	if (cpus > CPU_SETSIZE || sched_getaffinity(0, sizeof(may), &may))
		fatal("membarrier(2) is refused now, and so is sched_getaffinity(2)");
	for (cpu = 0; cpu < cpus; cpu++)
		visited += visit(cpu);
	if (!visited || sched_setaffinity(0, sizeof(may), &may))
		fatal("membarrier(2) is refused now, and so is sched_setaffinity(2)");
	errno = saved;
}

void membarrier_all(void)
{
	PROBE(fence, 0);
	if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0)
		membarrier_walk();
}

/* If it is refused, so will be the fence, and that is made by hand. */
void membarrier_fork_child(void)
{
	if (load_relaxed(&state) == READY)
		(void)membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
}
