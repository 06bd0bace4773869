/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the malloc backend: sizes and alignments over the whole legal range come
 * out of the packed context as they went in (objects are aligned, do not overlap,
 * and hold what is written to their last byte), what is out of range is refused,
 * SHEAF_NOWAIT gets nothing, and when memory ends in the middle of a bulk the part
 * that was had is handed out.
 */
#include <sheaf/backend.h>

#include "base/memory.h"
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
static bool try_bulk(size_t size, size_t align, size_t n)
{
	struct sheaf_backend b = make(size, align);
	void *objects[BULK];
	size_t mask = (align ? align : _Alignof(max_align_t)) - 1;
	size_t got = b.ops->alloc_bulk(b.ctx, SHEAF_NODE_ANY, 0, n, objects);
	bool ok = got == n;

	for (size_t i = 0; i < got; i++) {
		ok = ok && !((uintptr_t)objects[i] & mask);
		memset(objects[i], (int)i, size);
	}
	for (size_t i = 0; i < got; i++) {
		const unsigned char *bytes = objects[i];

		ok = ok && bytes[0] == i && bytes[size / 2] == i && bytes[size - 1] == i;
	}
	b.ops->free_bulk(b.ctx, got, objects);
	return ok;
}

START_TEST(small_sizes_and_all_alignments)
{
	for (size_t align = 1; align <= (size_t)1 << 20; align *= 2) {
		size_t most = test_slow() || align > 4096 ? 20 : 300;

		for (size_t size = 1; size <= most; size++)
			ck_assert(try_bulk(size, align, align > 4096 ? 2 : BULK));
		ck_assert(try_bulk(align, align, 2));
		ck_assert(try_bulk(align + 1, align, 2));
	}
	for (size_t size = 1; size < 600; size++)
		ck_assert(try_bulk(size, 0, BULK));
}
END_TEST

START_TEST(random_sizes)
{
	uint64_t state = test_seed();

	for (unsigned i = test_rounds(300); i; i--) {
		size_t size = 1 + test_below(&state, (uint64_t)1 << test_below(&state, 22));
		size_t align = (size_t)1 << test_below(&state, 21);

		ck_assert(try_bulk(size, test_below(&state, 4) ? align : 0,
				   1 + test_below(&state, 3)));
	}
}
END_TEST

static size_t asked;

static bool note_and_fail(size_t bytes)
{
	asked = bytes;
	return true;
}

/* What the backend asks the C library for, up to the limits; without getting it. */
START_TEST(sizes_are_kept)
{
	const size_t most = (size_t)1 << 30;
	uint64_t state = test_seed();

	sheaf_memory_fault = note_and_fail;
	for (unsigned i = test_rounds(20000); i; i--) {
		size_t align = test_below(&state, 3) ? (size_t)1 << test_below(&state, 21) : 0;
		size_t size = 1 + test_below(&state, (uint64_t)1 << test_below(&state, 31));
		struct sheaf_backend b;
		void *object;

		if (!test_below(&state, 10))
			size = most;
		b = make(size, align);
		ck_assert_uint_eq(b.ops->alloc_bulk(b.ctx, 0, 0, 1, &object), 0);
		if (align <= _Alignof(max_align_t))
			ck_assert_uint_eq(asked, size < align ? align : size);
		else
			ck_assert_uint_eq(asked, (size + align - 1) / align * align);
	}
	sheaf_memory_fault = NULL;
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
	tcase_add_test(tc, sizes_are_kept);
	tcase_add_test(tc, out_of_range_is_refused);
	tcase_add_test(tc, nowait_gets_nothing);
	tcase_add_test(tc, part_of_a_bulk_when_memory_ends);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
