/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The list of possible nodes is "0" or "0-3" or "0,2-3": the highest number in it
 * plus one is what arrays are sized by. Node numbers above the maximum fold.
 */
#define _GNU_SOURCE
#include "base/topology.h"

#include "base/atomic.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned read_nodes(void)
{
	char line[256];
	unsigned long highest = 0;
	char *p = line;
	FILE *file = fopen("/sys/devices/system/node/possible", "re");

	if (!file)
		return 1;
	if (!fgets(line, sizeof(line), file))
		line[0] = '\0';
	fclose(file);
	while (*p) {
		char *end;
		unsigned long n = strtoul(p, &end, 10);

		if (end == p)
			break;
		if (n > highest)
			highest = n;
		p = *end ? end + 1 : end;
	}
	return highest < TOPOLOGY_NODES_MAX ? (unsigned)highest + 1 : TOPOLOGY_NODES_MAX;
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
