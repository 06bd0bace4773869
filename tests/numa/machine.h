/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What the system says of its nodes, read apart from the library, and where memory lies. */
#ifndef NUMA_MACHINE_H
#define NUMA_MACHINE_H

#include "common.h"

#define MACHINE_NODES 64
#define MACHINE_CPUS 1024

struct machine {
	/* More than the highest node number there can be, and the highest CPU number. */
	unsigned nodes;
	unsigned cpus;
	bool memory[MACHINE_NODES];
	uint64_t bytes[MACHINE_NODES];
	/* A CPU of a node that is online and that we may run on; -1 if it has none. */
	int cpu[MACHINE_NODES];
	/* The node of such a CPU; -1 for all others. */
	int node[MACHINE_CPUS];
};

extern struct machine machine;

/*
 * Read `machine`; for main() to do first. Returns 0, or what to exit with: 77, skipped, if fewer
 * than two nodes have memory, or the kernel does not tell where it lies. With SHEAF_NUMA set,
 * which says that the machine is made for these tests, that is a failure, and so is the
 * lack of a node with CPUs only or memory only.
 */
int machine_read(void);

/* A node with CPUs and no memory, or the smallest with memory and no CPU; -1 if there is none. */
int machine_cpus_only(void);
int machine_memory_only(void);

/* Keep the caller on one CPU. */
bool machine_pin(int cpu);

/* Keep it on a CPU of some node other than this one. */
bool machine_pin_elsewhere(unsigned node);

/* The node of the page at an address that has been written to; -errno if there is none. */
int machine_node_of(const void *address);

/* How many of n objects have their first or last byte elsewhere than on a node. */
size_t machine_strays(size_t n, void *const *objects, size_t size, unsigned node);

/* How many of them have one of these on a node without memory, or in no page at all. */
size_t machine_nowhere(size_t n, void *const *objects, size_t size);

#endif
