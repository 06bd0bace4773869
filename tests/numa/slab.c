/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a region of the slab backend is bound to its node: the kernel names that node as
 * the preferred one over all of the region, and pages come from there when a thread of
 * another node touches them first, and again after a trim. It is a preference: a node
 * that has no memory, or none left, takes from others.
 */
#include "machine.h"

#include <sheaf/slab.h>

#include <linux/mempolicy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OBJECT ((size_t)4096)
#define PER_REGION (SHEAF_SLAB_REGION / OBJECT)

/* With the regions of the other nodes, enough that some ask for huge pages. */
#define REGIONS ((size_t)6)

/* A node of no more than this is filled. */
#define SMALL_NODE ((uint64_t)256 << 20)

static struct sheaf_slab *make(void)
{
	const struct sheaf_slab_attr attr = {.size = sizeof(attr), .object_size = OBJECT};
	struct sheaf_slab *slab;

	ck_assert_int_eq(sheaf_slab_create(&slab, &attr), 0);
	return slab;
}

static void **take(struct sheaf_slab *slab, unsigned node, size_t n)
{
	struct sheaf_backend b = sheaf_slab_backend(slab);
	void **objects = malloc(n * sizeof(objects[0]));

	ck_assert_ptr_nonnull(objects);
	ck_assert_uint_eq(b.ops->alloc_bulk(b.ctx, (int)node, 0, n, objects), n);
	return objects;
}

static void give(struct sheaf_slab *slab, size_t n, void *const *objects)
{
	struct sheaf_backend b = sheaf_slab_backend(slab);

	b.ops->free_bulk(b.ctx, n, objects);
	ck_assert(sheaf_slab_check(slab));
}

static void touch(size_t n, void *const *objects)
{
	for (size_t i = 0; i < n; i++)
		memset(objects[i], 1, OBJECT);
}

/* The kernel's policy at an address, and the nodes in it; touches nothing. */
static int policy_at(const void *address, uint64_t *nodes)
{
	uint64_t mask[1024 / 64] = {0};
	int mode = -1;

	ck_assert_int_eq(syscall(SYS_get_mempolicy, &mode, mask, 1024ul, address, MPOL_F_ADDR), 0);
	*nodes = mask[0];
	return mode;
}

/* The node that holds the page of an address. */
static int page_at(const void *address)
{
	int node = -1;

	ck_assert_int_eq(
		syscall(SYS_get_mempolicy, &node, NULL, 0ul, address, MPOL_F_NODE | MPOL_F_ADDR),
		0);
	return node;
}

START_TEST(regions_are_bound)
{
	struct sheaf_slab *slab = make();
	void **objects[MACHINE_NODES] = {NULL};
	const size_t n = REGIONS * PER_REGION;

	for (unsigned node = 0; node < machine.nodes; node++) {
		if (!machine.memory[node])
			continue;
		ck_assert(machine_pin_elsewhere(node));
		objects[node] = take(slab, node, n);
		for (size_t i = 0; i < n; i++) {
			uint64_t nodes;

			ck_assert_int_eq(policy_at(objects[node][i], &nodes), MPOL_PREFERRED);
			ck_assert_uint_eq(nodes, (uint64_t)1 << node);
		}
		touch(n, objects[node]);
	}
	for (unsigned node = 0; node < machine.nodes; node++) {
		if (!objects[node])
			continue;
		for (size_t i = 0; i < n; i++)
			ck_assert_int_eq(page_at(objects[node][i]), (int)node);
		ck_assert_uint_eq(machine_strays(n, objects[node], OBJECT, node), 0);
		give(slab, n, objects[node]);
		free(objects[node]);
	}
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

/* All but the first object of each region is given up; its pages come anew. */
static uint64_t returned(struct sheaf_slab *slab)
{
	struct sheaf_slab_stats stats;

	sheaf_slab_stats(slab, &stats);
	return stats.bytes_returned;
}

START_TEST(trimmed_pages_come_back_on_their_node)
{
	struct sheaf_slab *slab = make();
	const size_t n = REGIONS * PER_REGION, rest = n - REGIONS;

	for (unsigned node = 0; node < machine.nodes; node++) {
		uint64_t before = returned(slab);
		void **objects, **again;

		if (!machine.memory[node])
			continue;
		ck_assert(machine_pin_elsewhere(node));
		objects = take(slab, node, n);
		touch(n, objects);
		for (size_t i = 0; i < REGIONS; i++)
			give(slab, PER_REGION - 1, objects + i * PER_REGION + 1);
		/* Some has gone when it was freed. */
		(void)sheaf_slab_trim(slab);
		ck_assert_uint_gt(returned(slab) - before, REGIONS * SHEAF_SLAB_REGION / 2);
		again = take(slab, node, rest);
		touch(rest, again);
		ck_assert_uint_eq(machine_strays(rest, again, OBJECT, node), 0);
		give(slab, rest, again);
		for (size_t i = 0; i < REGIONS; i++)
			give(slab, 1, objects + i * PER_REGION);
		free(objects);
		free(again);
	}
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

START_TEST(a_node_without_memory_takes_from_others)
{
	struct sheaf_slab *slab = make();
	const size_t n = REGIONS * PER_REGION;
	int node = machine_cpus_only();
	void **objects;

	ck_assert(machine_pin(machine.cpu[node]));
	objects = take(slab, (unsigned)node, n);
	touch(n, objects);
	ck_assert_uint_eq(machine_nowhere(n, objects, OBJECT), 0);
	give(slab, n, objects);
	free(objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

/* More than the node has: the first pages lie there, the last elsewhere. */
START_TEST(a_full_node_takes_from_others)
{
	struct sheaf_slab *slab = make();
	unsigned node = (unsigned)machine_memory_only();
	const size_t n = machine.bytes[node] / OBJECT + 4 * PER_REGION;
	void **objects = take(slab, node, n);
	size_t strays;

	touch(n, objects);
	strays = machine_strays(n, objects, OBJECT, node);
	ck_assert_uint_ge(strays, 4 * PER_REGION);
	ck_assert_uint_lt(strays, n / 2);
	ck_assert_uint_eq(machine_nowhere(n, objects, OBJECT), 0);
	give(slab, n, objects);
	free(objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

int main(void)
{
	int code = machine_read(), only;
	Suite *suite;
	TCase *tc;

	if (code)
		return code;
	suite = suite_create("numa-slab");
	tc = tcase_create("slab");
	tcase_add_test(tc, regions_are_bound);
	tcase_add_test(tc, trimmed_pages_come_back_on_their_node);
	if (machine_cpus_only() >= 0)
		tcase_add_test(tc, a_node_without_memory_takes_from_others);
	/* Not on a machine that others use. */
	only = machine_memory_only();
	if (getenv("SHEAF_NUMA") && only >= 0 && machine.bytes[only] <= SMALL_NODE)
		tcase_add_test(tc, a_full_node_takes_from_others);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
