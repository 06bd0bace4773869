/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Nodes of CPUs, and last-level caches. Each CPU's directory says which CPUs share its caches; the lowest of them names
 * the cache. A table tells the place of each CPU: its node times the most caches of a node, plus
 * the number of its cache among those of the node.
 */
#define _GNU_SOURCE
#include "base/topology.h"
#include "base/thread.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* CPUs with higher numbers are taken for CPU 0. */
#define CPUS TOPOLOGY_CPUS_MAX
#define INDEXES 8

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint16_t place[CPUS], numa[CPUS];
static unsigned most = 1;

static bool read_number(const char *path, unsigned *number)
{
	FILE *file = fopen(path, "re");
	unsigned long value = 0;
	char text[32], *end = text;

	if (!file)
		return false;
	if (fgets(text, sizeof(text), file))
		value = strtoul(text, &end, 10);
	fclose(file);
	*number = (unsigned)value;
	return end > text && value <= UINT_MAX;
}

/* The lowest CPU that shares this one's last-level cache; the CPU itself if that is not known. */
static unsigned cache_of(unsigned cpu)
{
	unsigned best = 0, name = cpu, level, first, i;
	char path[96];

	for (i = 0; i < INDEXES; i++) {
		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/cache/index%u/level",
			 cpu, i);
		if (!read_number(path, &level) || level < best)
			continue;
		snprintf(path, sizeof(path),
			 "/sys/devices/system/cpu/cpu%u/cache/index%u/shared_cpu_list", cpu, i);
		if (!read_number(path, &first))
			continue;
		best = level;
		name = first;
	}
	/* Without a cache of level 3 it is the core's own, which is no place to share. */
	return best > 2 ? name : 0;
}

/* TOPOLOGY_UNKNOWN for a CPU that is not there yet. */
static unsigned node_of(unsigned cpu)
{
	unsigned node;
	char path[96];

	for (node = 0; node < topology_nodes(); node++) {
		FILE *file;

		snprintf(path, sizeof(path), "/sys/devices/system/node/node%u/cpu%u/online", node,
			 cpu);
		file = fopen(path, "re");
		if (!file) {
			snprintf(path, sizeof(path),
				 "/sys/devices/system/node/node%u/cpu%u/topology/core_id", node,
				 cpu);
			file = fopen(path, "re");
		}
		if (!file)
			continue;
		fclose(file);
		return node;
	}
	return TOPOLOGY_UNKNOWN;
}

static void read_caches(void)
{
	int state = cancel_off();
	/* By node: names of the caches that were seen. */
	static uint16_t names[TOPOLOGY_NODES_MAX][TOPOLOGY_CACHES_MAX];
	unsigned seen[TOPOLOGY_NODES_MAX] = {0}, node, name, cpu, i;
	unsigned cpus = topology_cpus() < CPUS ? topology_cpus() : CPUS;

	for (cpu = 0; cpu < cpus; cpu++) {
		node = node_of(cpu);
		numa[cpu] = (uint16_t)node;
		if (node == TOPOLOGY_UNKNOWN)
			node = 0;
		name = cache_of(cpu);
		for (i = 0; i < seen[node] && names[node][i] != name; i++)
			;
		if (i == seen[node]) {
			if (i == TOPOLOGY_CACHES_MAX)
				i = 0;
			else
				names[node][seen[node]++] = (uint16_t)name;
		}
		place[cpu] = (uint16_t)(node * TOPOLOGY_CACHES_MAX + i);
		if (seen[node] > most)
			most = seen[node];
	}
	for (cpu = 0; cpu < cpus; cpu++)
		place[cpu] = (uint16_t)(place[cpu] / TOPOLOGY_CACHES_MAX * most +
					place[cpu] % TOPOLOGY_CACHES_MAX);
	cancel_on(state);
}

unsigned topology_node_caches(void)
{
	pthread_once(&once, read_caches);
	return most;
}

const uint16_t *topology_cpu_nodes(void)
{
	if (topology_cpus() > CPUS)
		return NULL;
	pthread_once(&once, read_caches);
	return numa;
}

int topology_current_cache(void *unused)
{
	unsigned cpu, node;

	(void)unused;
	if (getcpu(&cpu, &node) != 0)
		return 0;
	return place[cpu < CPUS ? cpu : 0];
}
