/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the malloc backend: sizes and alignments over the whole legal range come
 * out of the packed context as they went in (objects are aligned, do not overlap,
 * and hold what is written to their last byte), what is out of range is refused,
 * SHEAF_NOWAIT gets nothing, and when memory ends in the middle of a bulk the part
 * that was had is handed out. Sizes to the byte are left to the checkers: an overrun
 * here is one there.
 */
#include <sheaf/backend.h>

#include "common.h"

#include <errno.h>
#include <string.h>

#define BULK 16

static struct sheaf_backend make(size_t size, size_t align)
{
	struct sheaf_backend backend;

	ck_assert_int_eq(sheaf_backend_malloc(&backend, size, align), 0);
	ck_assert_ptr_nonnull(backend.ops->name);
	return backend;
}

/* Get objects, fill each with its number, and look whether all numbers stay. */
static void try_bulk(size_t size, size_t align, size_t n)
{
	struct sheaf_backend b = make(size, align);
	void *objects[BULK];
	size_t mask = (align ? align : _Alignof(max_align_t)) - 1;

	ck_assert_uint_eq(b.ops->alloc_bulk(b.ctx, SHEAF_NODE_ANY, 0, n, objects), n);
	for (size_t i = 0; i < n; i++) {
		ck_assert_uint_eq((uintptr_t)objects[i] & mask, 0);
		memset(objects[i], (int)i, size);
	}
	for (size_t i = 0; i < n; i++) {
		const unsigned char *bytes = objects[i];

		ck_assert_uint_eq(bytes[0], i);
		ck_assert_uint_eq(bytes[size / 2], i);
		ck_assert_uint_eq(bytes[size - 1], i);
	}
	b.ops->free_bulk(b.ctx, n, objects);
}

START_TEST(small_sizes_and_all_alignments)
{
	for (size_t align = 1; align <= (size_t)1 << 20; align *= 2) {
		size_t most = test_slow() || align > 4096 ? 20 : 600;

		for (size_t size = 1; size <= most; size++)
			try_bulk(size, align, align > 4096 ? 2 : BULK);
		try_bulk(align, align, 2);
		try_bulk(align + 1, align, 2);
	}
	for (size_t size = 1; size < 600; size++)
		try_bulk(size, 0, BULK);
}
END_TEST

START_TEST(random_sizes)
{
	uint64_t state = test_seed();

	for (unsigned i = test_rounds(500); i; i--) {
		size_t size = 1 + test_below(&state, (uint64_t)1 << test_below(&state, 22));
		size_t align = (size_t)1 << test_below(&state, 21);

		try_bulk(size, test_below(&state, 4) ? align : 0, 1 + test_below(&state, 3));
	}
}
END_TEST

START_TEST(largest)
{
	static const size_t aligns[] = {0, 16, 4096, (size_t)1 << 20};

	for (size_t i = 0; i < sizeof(aligns) / sizeof(aligns[0]); i++) {
		struct sheaf_backend b = make((size_t)1 << 30, aligns[i]);
		char *object;

		if (!b.ops->alloc_bulk(b.ctx, 0, 0, 1, (void **)&object))
			continue;
		object[0] = 1;
		object[((size_t)1 << 30) - 1] = 1;
		if (aligns[i])
			ck_assert_uint_eq((uintptr_t)object % aligns[i], 0);
		b.ops->free_bulk(b.ctx, 1, (void *const *)&object);
	}
}
END_TEST

START_TEST(out_of_range_is_refused)
{
	static const size_t wrong[][2] = {
		{0, 0}, {0, 8},  {((size_t)1 << 30) + 1, 0}, {SIZE_MAX, 0},
		{8, 3}, {8, 24}, {8, (size_t)1 << 21},       {8, SIZE_MAX},
	};
	struct sheaf_backend b = {NULL, NULL};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_int_eq(sheaf_backend_malloc(&b, wrong[i][0], wrong[i][1]), -EINVAL);
	ck_assert_ptr_null(b.ops);
}
END_TEST

START_TEST(nowait_gets_nothing)
{
	struct sheaf_backend b = make(64, 0);
	void *objects[BULK] = {NULL};

	ck_assert_uint_eq(b.ops->alloc_bulk(b.ctx, 0, SHEAF_NOWAIT, BULK, objects), 0);
	ck_assert_ptr_null(objects[0]);
}
END_TEST

START_TEST(part_of_a_bulk_when_memory_ends)
{
	static const size_t aligns[] = {0, 256};

	for (unsigned i = 0; i < 2; i++)
		for (unsigned nth = 0; nth < BULK; nth++) {
			struct sheaf_backend b = make(64, aligns[i]);
			void *objects[BULK];
			size_t got;

			test_fail_nth(nth, true);
			got = b.ops->alloc_bulk(b.ctx, 0, 0, BULK, objects);
			ck_assert(test_fail_end());
			ck_assert_uint_eq(got, nth);
			b.ops->free_bulk(b.ctx, got, objects);
		}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend");
	TCase *tc = tcase_create("malloc");

	tcase_add_test(tc, small_sizes_and_all_alignments);
	tcase_add_test(tc, random_sizes);
	tcase_add_test(tc, largest);
	tcase_add_test(tc, out_of_range_is_refused);
	tcase_add_test(tc, nowait_gets_nothing);
	tcase_add_test(tc, part_of_a_bulk_when_memory_ends);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
