/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves on a machine with several NUMA nodes that pages of slabs lie on the node that was asked
 * for, as move_pages(2) tells, and that regions have the policy that says so, as get_mempolicy(2)
 * tells; that a node without memory is served from others; and that injected nodes are no matter to
 * the system. With one node there is nothing to see: exit code 77, skipped.
 */
#include <sheaf/slab.h>

#include "base/topology.h"

#include <linux/mempolicy.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MASK_BITS 1024
#define LONG_BITS (8 * sizeof(unsigned long))
#define OBJECTS 64
#define SIZE 4096

static unsigned failures;

static void check(bool ok, const char *what, unsigned node)
{
	if (!ok) {
		fprintf(stderr, "node %u: %s\n", node, what);
		failures++;
	}
}

static struct sheaf_backend make(unsigned nodes)
{
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = SIZE,
		.object_align = SIZE,
		.nodes = nodes,
		.no_huge_pages = true,
	};
	struct sheaf_slab *slab;

	if (sheaf_slab_create(&slab, &attr)) {
		fprintf(stderr, "no slab backend\n");
		exit(1);
	}
	return sheaf_slab_backend(slab);
}

/* The policy of the memory at an address; false: the system does not tell. */
static bool policy_at(void *address, int *mode, unsigned long *mask)
{
	return syscall(__NR_get_mempolicy, mode, mask, (unsigned long)MASK_BITS, address,
		       MPOL_F_ADDR) == 0;
}

/* How many of the objects lie on a node. */
static unsigned pages_on(void **objects, int node)
{
	int status[OBJECTS];
	unsigned n = 0;

	if (syscall(__NR_move_pages, 0, (unsigned long)OBJECTS, objects, NULL, status, 0))
		return 0;
	for (unsigned i = 0; i < OBJECTS; i++)
		n += status[i] == node;
	return n;
}

static void visit(struct sheaf_backend b, unsigned node, bool has_memory, bool bound)
{
	unsigned long mask[MASK_BITS / LONG_BITS] = {0};
	void *objects[OBJECTS];
	int mode = -1;

	check(b.ops->alloc_bulk(b.ctx, (int)node, 0, OBJECTS, objects) == OBJECTS, "no memory",
	      node);
	for (unsigned i = 0; i < OBJECTS; i++)
		memset(objects[i], 1, SIZE);
	check(policy_at(objects[0], &mode, mask), "get_mempolicy() failed", node);
	if (bound && has_memory) {
		check(mode == MPOL_PREFERRED, "the policy is not to prefer a node", node);
		check(mask[node / LONG_BITS] == 1ul << node % LONG_BITS, "another is preferred",
		      node);
		check(pages_on(objects, (int)node) == OBJECTS, "pages lie elsewhere", node);
	} else {
		check(mode == MPOL_DEFAULT, "a policy where none should be", node);
	}
	b.ops->free_bulk(b.ctx, OBJECTS, objects);
}

int main(void)
{
	unsigned long allowed[MASK_BITS / LONG_BITS] = {0};
	unsigned nodes = topology_nodes(), with_memory = 0;
	struct sheaf_backend real, injected;

	if (nodes < 2 || syscall(__NR_get_mempolicy, NULL, allowed, (unsigned long)MASK_BITS, 0,
				 MPOL_F_MEMS_ALLOWED)) {
		printf("one node: nothing to see\n");
		return 77;
	}
	real = make(0);
	injected = make(nodes + 1);
	for (unsigned k = 0; k < nodes; k++) {
		bool has_memory = allowed[k / LONG_BITS] >> k % LONG_BITS & 1;

		with_memory += has_memory;
		visit(real, k, has_memory, true);
	}
	for (unsigned k = 0; k <= nodes; k++)
		visit(injected, k, true, false);
	real.ops->destroy(real.ctx);
	injected.ops->destroy(injected.ctx);
	printf("%u nodes, %u with memory, %u failures\n", nodes, with_memory, failures);
	return failures ? 1 : 0;
}
