/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves single promises of the slab backend: which attributes are taken and refused;
 * that objects of any size fill regions without overhead; that the fullest regions
 * and slabs are used first; that nodes are folded, preferred, and helped out by
 * others; that destroy refuses while objects are out.
 */
#include "helpers.h"

#include "base/attr.h"
#include "base/topology.h"

#include <errno.h>
#include <string.h>

START_TEST(attributes_are_versioned_by_size)
{
	static const unsigned char src[12] = {12, 1, 2, 3, 4, 5, 6, 7};
	unsigned char dst[8];

	memset(dst, 9, sizeof(dst));
	ck_assert_int_eq(attr_copy(dst, 8, src, 0, 4), -EINVAL);
	ck_assert_int_eq(attr_copy(dst, 8, src, 3, 4), -EINVAL);
	ck_assert_int_eq(attr_copy(dst, 6, src, 8, 4), -EINVAL);
	ck_assert_int_eq(dst[0], 9);
	ck_assert_int_eq(attr_copy(dst, 8, src, 4, 4), 0);
	ck_assert_mem_eq(dst, "\x0c\1\2\3\0\0\0\0", 8);
	ck_assert_int_eq(attr_copy(dst, 8, src, 8, 4), 0);
	ck_assert_mem_eq(dst, src, 8);
	ck_assert_int_eq(attr_copy(dst, 8, src, 12, 4), 0);
	ck_assert_mem_eq(dst, src, 8);
}
END_TEST

START_TEST(attributes_out_of_range_are_refused)
{
	static const struct sheaf_slab_attr wrong[] = {
		{.size = 0, .object_size = 64},
		{.size = sizeof(size_t), .object_size = 64},
		{.size = sizeof(wrong[0]), .object_size = 0},
		{.size = sizeof(wrong[0]), .object_size = 65537},
		{.size = sizeof(wrong[0]), .object_size = SIZE_MAX},
		{.size = sizeof(wrong[0]), .object_size = 64, .object_align = 24},
		{.size = sizeof(wrong[0]), .object_size = 64, .object_align = 8192},
		{.size = sizeof(wrong[0]), .object_size = 64, .nodes = 65},
	};
	struct {
		struct sheaf_slab_attr attr;
		char more[8];
	} newer = {.attr = {.size = sizeof(newer), .object_size = 64}};
	struct sheaf_slab *slab = NULL;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_int_eq(sheaf_slab_create(&slab, &wrong[i]), -EINVAL);
	newer.more[7] = 1;
	ck_assert_int_eq(sheaf_slab_create(&slab, &newer.attr), -EINVAL);
	ck_assert_ptr_null(slab);
	newer.more[7] = 0;
	ck_assert_int_eq(sheaf_slab_create(&slab, &newer.attr), 0);
	ck_assert_uint_eq(slab->nodes, topology_nodes());
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

/* The division, the number of objects, the waste. */
static bool cut_well(struct sheaf_slab *slab, size_t size, size_t align)
{
	struct sheaf_slab_stats stats = stats_of(slab);
	uint32_t stride = slab->stride;
	uint32_t rest = stats.slab_bytes - stats.slab_objects * stride;
	bool ok = true;

	if (align < 8)
		align = 8;
	for (uint32_t i = 0; i < stats.slab_objects; i++)
		ok = ok && slab_divide(slab, i * stride) == i &&
		     slab_divide(slab, i * stride + stride - 1) == i;
	return ok && stride >= size && stride % align == 0 && stride - size < align &&
	       stats.slab_objects >= 32 && rest < stride && rest * 32 <= stats.slab_bytes &&
	       region_bin(slab, slab->region_objects - 1) < REGION_BINS;
}

START_TEST(slabs_are_cut_well)
{
	uint64_t state = test_seed();
	size_t step = test_full() ? 1 : test_slow() ? 301 : 13;

	for (size_t size = 1; size <= 65536; size += test_below(&state, 2 * step - 1) + 1) {
		size_t align = (size_t)1 << test_below(&state, 13);
		struct sheaf_slab *slab = make(size, align, 1, 0);

		ck_assert_msg(cut_well(slab, size, align), "size %zu align %zu", size, align);
		ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
	}
}
END_TEST

/* A region holds as many objects of a power of two as it has bytes for. */
START_TEST(objects_have_no_overhead)
{
	static const size_t sizes[] = {8, 64, 256, 4096, 65536};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t n = SHEAF_SLAB_REGION / sizes[i];
		struct sheaf_slab *slab = make(sizes[i], sizes[i] < 4096 ? sizes[i] : 4096, 1, 0);
		void **objects = room_for(n + 1);

		take(slab, 0, n, objects);
		ck_assert_uint_eq(stats_of(slab).regions, 1);
		ck_assert_uint_eq(stats_of(slab).slabs_empty, 0);
		ck_assert(sheaf_slab_check(slab));
		take(slab, 0, 1, objects + n);
		ck_assert_uint_eq(stats_of(slab).regions, 2);
		give(slab, n + 1, objects);
		ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
		free(objects);
	}
}
END_TEST

START_TEST(fullest_region_first)
{
	struct sheaf_slab *slab = make(65536, 0, 1, 0);
	void *objects[96], *again[64];

	/* Of 32 objects each, 28, 2 and 4 stay out. */
	take(slab, 0, 96, objects);
	give(slab, 4, objects);
	give(slab, 30, objects + 32);
	give(slab, 28, objects + 64);
	take(slab, 0, 62, again);
	for (unsigned i = 0; i < 62; i++) {
		unsigned from = i < 4 ? 0 : i < 32 ? 64 : 32;

		ck_assert_ptr_eq(region_find(again[i]), region_find(objects[from + 31]));
	}
	ck_assert_uint_eq(stats_of(slab).regions, 3);
	give(slab, 62, again);
	give(slab, 28, objects + 4);
	give(slab, 2, objects + 62);
	give(slab, 4, objects + 92);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

START_TEST(partial_slabs_first_then_touched_ones)
{
	struct sheaf_slab *slab = make(256, 0, 1, 0);
	size_t n = stats_of(slab).slab_objects;
	void **objects = room_for(4 * n);
	void *again[3];

	/* Slab 0 is empty without pages, 1 full, 2 empty with pages, 3 has one free. */
	take(slab, 0, 4 * n, objects);
	give(slab, n, objects);
	ck_assert_uint_eq(sheaf_slab_trim(slab), stats_of(slab).slab_bytes);
	give(slab, n, objects + 2 * n);
	give(slab, 1, objects + 3 * n);
	take(slab, 0, 2, again);
	ck_assert_ptr_eq(again[0], objects[3 * n]);
	ck_assert_ptr_eq(again[1], objects[2 * n]);
	take(slab, 0, n - 1, objects + 2 * n);
	take(slab, 0, 1, again + 2);
	ck_assert_ptr_eq(again[2], objects[0]);
	give(slab, 3, again);
	give(slab, n, objects + n);
	give(slab, n - 1, objects + 2 * n);
	give(slab, n - 1, objects + 3 * n + 1);
	ck_assert_uint_eq(stats_of(slab).slabs_used, 0);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
	free(objects);
}
END_TEST

START_TEST(nodes_are_kept_apart)
{
	static const unsigned counts[] = {1, 2, 4, 8, 64};

	for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
		unsigned nodes = counts[c];
		/* With no spare regions, one node's are gone before the next one's turn. */
		struct sheaf_slab *slab = make(128, 0, nodes, c % 2 ? UINT32_MAX : 1);
		void **objects = room_for(nodes * 100), **again = room_for(nodes * 100);

		for (unsigned k = 0; k < nodes; k++) {
			/* Numbers from `nodes` on fold. */
			take(slab, (int)(k + (k % 3) * nodes), 100, objects + k * 100);
			for (unsigned i = 0; i < 100; i++)
				ck_assert_uint_eq(node_of(objects[k * 100 + i]), k);
		}
		ck_assert_uint_eq(stats_of(slab).regions, nodes);
		/* One bulk free returns each object to its own node. */
		give(slab, nodes * 100, objects);
		for (unsigned k = nodes; k-- > 0;) {
			take(slab, (int)k, 100, again + k * 100);
			for (unsigned i = 0; i < 100; i++)
				ck_assert_uint_eq(node_of(again[k * 100 + i]), k);
		}
		ck_assert_uint_eq(stats_of(slab).regions, nodes);
		give(slab, nodes * 100, again);
		ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
		free(objects);
		free(again);
	}
}
END_TEST

START_TEST(other_nodes_help_out)
{
	struct sheaf_slab *slab = make(65536, 0, 4, 0);
	void *objects[100];
	size_t got;

	/* One of the 32 objects of node 2 is out. */
	take(slab, 2, 1, objects);
	/* Any node: what there is, wherever it is. */
	take(slab, SHEAF_NODE_ANY, 10, objects + 1);
	for (unsigned i = 1; i < 11; i++)
		ck_assert_uint_eq(node_of(objects[i]), 2);
	ck_assert_uint_eq(stats_of(slab).regions, 1);
	/* A given node: there, if the system has memory; else what there is. */
	take(slab, 1, 1, objects + 11);
	ck_assert_uint_eq(node_of(objects[11]), 1);
	give(slab, 1, objects + 11);
	ck_assert_uint_eq(stats_of(slab).regions, 2);
	ck_assert_uint_eq(sheaf_slab_trim(slab), SHEAF_SLAB_REGION);
	test_fail_nth(0, true);
	got = take_some(slab, 1, 0, 80, objects + 11);
	ck_assert(test_fail_end());
	ck_assert_uint_eq(got, 21);
	for (unsigned i = 11; i < 32; i++)
		ck_assert_uint_eq(node_of(objects[i]), 2);
	give(slab, 32, objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

START_TEST(destroy_waits_for_objects)
{
	struct sheaf_slab *slab = make(48, 0, 3, 0);
	void *objects[10];

	take(slab, 2, 10, objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), -EBUSY);
	give(slab, 9, objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), -EBUSY);
	ck_assert(sheaf_slab_check(slab));
	take(slab, 2, 9, objects);
	give(slab, 10, objects);
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}
END_TEST

START_TEST(calls_of_nothing)
{
	struct sheaf_slab *slab = make(48, 0, 1, 0);

	ck_assert_uint_eq(take_some(slab, 0, 0, 0, NULL), 0);
	give(slab, 0, NULL);
	ck_assert_uint_eq(stats_of(slab).alloc_calls + stats_of(slab).free_calls, 0);
	ck_assert_uint_eq(stats_of(slab).regions, 0);
	ck_assert_uint_eq(sheaf_slab_trim(slab), 0);
	sheaf_slab_backend(slab).ops->destroy(slab);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab");
	TCase *tc = tcase_create("unit");

	tcase_add_test(tc, attributes_are_versioned_by_size);
	tcase_add_test(tc, attributes_out_of_range_are_refused);
	tcase_add_test(tc, slabs_are_cut_well);
	tcase_add_test(tc, objects_have_no_overhead);
	tcase_add_test(tc, fullest_region_first);
	tcase_add_test(tc, partial_slabs_first_then_touched_ones);
	tcase_add_test(tc, nodes_are_kept_apart);
	tcase_add_test(tc, other_nodes_help_out);
	tcase_add_test(tc, destroy_waits_for_objects);
	tcase_add_test(tc, calls_of_nothing);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
