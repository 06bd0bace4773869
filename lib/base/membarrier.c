/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#define _GNU_SOURCE
#include "base/membarrier.h"

#include "base/atomic.h"
#include "base/probe.h"
#include "base/report.h"
#include "base/topology.h"
#include "base/wait.h"

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

/* A set of all CPUs that Linux can be built for. */
struct cpus {
	cpu_set_t part[8];
};
#define CPUS_MOST (8 * CPU_SETSIZE)

/* How often, 1 ms apart, memory that the kernel lacks is asked for. */
#define MOVES 1000

/* sched_setaffinity(2), with patience: it is called because something else was refused, perhaps for want of memory. */
static bool move(const struct cpus *cpus)
{
	unsigned tries;

	for (tries = 0; tries < MOVES; tries++) {
		if (!sched_setaffinity(0, sizeof(*cpus), cpus->part))
			return true;
		if (errno != ENOMEM)
			return false;
		wait_ns(1000000);
	}
	return false;
}

/* True once the caller has been there; false with EINVAL if it may not: then it is taken for one where no thread of the
 * program runs, as in a container with a set of CPUs. Another thread may send us elsewhere. */
static bool visit(unsigned cpu)
{
	struct cpus there;
	int at;

	CPU_ZERO_S(sizeof(there), there.part);
	CPU_SET_S(cpu, sizeof(there), there.part);
	do {
		if (!move(&there))
			return false;
		at = sched_getcpu();
	} while (at >= 0 && at != (int)cpu);
	return at >= 0;
}

/* One that is left out for another reason may run who is not fenced, and nobody would see it. */
void membarrier_walk(void)
{
	unsigned cpus = topology_cpus(), cpu, visited = 0;
	int saved = errno;
	struct cpus may;

	PROBE(fence_walk, cpus);
	if (cpus > CPUS_MOST)
		fatal("membarrier(2) is refused now, and %u CPUs are too many to visit", cpus);
	if (sched_getaffinity(0, sizeof(may), may.part))
		fatal("membarrier(2) is refused now, and so is sched_getaffinity(2)");
	for (cpu = 0; cpu < cpus; cpu++) {
		if (visit(cpu))
			visited++;
		else if (errno != EINVAL)
			fatal("membarrier(2) is refused now, and so is sched_setaffinity(2)");
	}
	if (!visited || !move(&may))
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
