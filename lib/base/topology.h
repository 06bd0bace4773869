/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* NUMA nodes as the system has them. */
#ifndef BASE_TOPOLOGY_H
#define BASE_TOPOLOGY_H

#include <stdint.h>

#define TOPOLOGY_NODES_MAX 64
#define TOPOLOGY_CACHES_MAX 64
#define TOPOLOGY_CPUS_MAX 1024
#define TOPOLOGY_UNKNOWN UINT16_MAX

/* How many node numbers there are (1 to TOPOLOGY_NODES_MAX; 1 if the system does not say). */
unsigned topology_nodes(void);

/* The node of the CPU that runs the caller, below topology_nodes(). May be old at once. */
int topology_current_node(void *unused);

/* The node of each CPU, TOPOLOGY_UNKNOWN where it is not known; NULL if there may be more than
 * TOPOLOGY_CPUS_MAX. Reads files the first time. */
const uint16_t *topology_cpu_nodes(void);

/*
 * Last-level caches of a node, the most that any node has; 1 if the system does not say. current: the
 * number of the caller's node times that, plus that of its cache within the node.
 */
unsigned topology_node_caches(void);
int topology_current_cache(void *unused);

/* More than the highest CPU number the kernel can ever give (CPUs that may be plugged in count). */
unsigned topology_cpus(void);

#endif
