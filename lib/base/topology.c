/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The lists of possible nodes and CPUs are "0" or "0-3" or "0,2-3": the highest number in
 * them plus one is what arrays are sized by. Node numbers above the maximum fold.
 */
#define _GNU_SOURCE
#include "base/topology.h"

#include "base/atomic.h"
#include "base/thread.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* No Linux can be built for more. */
#define CPUS_MOST 8192

/* The highest number in a list of the system's, plus one; 0 if there is none. */
static unsigned long list_end(const char *path)
{
	char line[4096];
	unsigned long end = 0;
	char *p = line;
	int state = cancel_off();
	FILE *file = fopen(path, "re");

	if (!file || !fgets(line, sizeof(line), file))
		line[0] = '\0';
	if (file)
		fclose(file);
	cancel_on(state);
	while (*p) {
		char *after;
		unsigned long n = strtoul(p, &after, 10);

		if (after == p)
			break;
		if (n + 1 > end)
			end = n + 1;
		p = *after ? after + 1 : after;
	}
	return end;
}

static unsigned read_nodes(void)
{
	unsigned long nodes = list_end("/sys/devices/system/node/possible");

	if (!nodes)
		return 1;
	return nodes < TOPOLOGY_NODES_MAX ? (unsigned)nodes : TOPOLOGY_NODES_MAX;
}

unsigned topology_nodes(void)
{
	static unsigned nodes;
	unsigned n = load_relaxed(&nodes);

	if (!n) {
		n = read_nodes();
		store_relaxed(&nodes, n);
	}
	return n;
}

int topology_current_node(void *unused)
{
	unsigned cpu, node;

	(void)unused;
	if (topology_nodes() == 1 || getcpu(&cpu, &node) != 0)
		return 0;
	return (int)(node % topology_nodes());
}

/*
 * Where /sys is not there: as many CPUs as the kernel's own masks have room for, which is what
 * the system call returns the length of. The number of CPUs we may run on says nothing.
 */
static unsigned mask_end(void)
{
	unsigned long mask[CPUS_MOST / 8 / sizeof(unsigned long)];
	long bytes = syscall(SYS_sched_getaffinity, 0, sizeof(mask), mask);

	return bytes > 0 ? (unsigned)bytes * 8 : CPUS_MOST;
}

unsigned topology_cpus(void)
{
	static unsigned cpus;
	unsigned n = load_relaxed(&cpus);

	if (!n) {
		n = (unsigned)list_end("/sys/devices/system/cpu/possible");
		if (!n)
			n = mask_end();
		store_relaxed(&cpus, n);
	}
	return n;
}
