/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of memory for Concurrency Kit's containers: a block of any size is aligned, is as
 * large as asked, and overlaps no other; what is freed deferred keeps its contents and is
 * not given out before its grace period, and what a deferred realloc has moved not before
 * the grace period that begins with the next call of the same thread; realloc keeps
 * contents; without memory NULL comes back and nothing is lost; fini tells what is still
 * allocated.
 */
#include <urcu/urcu-memb.h>

#include <sheaf/ck_malloc.h>

#include "common.h"
#include "pattern.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS 24

static struct sheaf_gp_manual manual;
static struct sheaf_ck_memory memory;
SHEAF_CK_MALLOC(allocator, &memory);

static void begin(void)
{
	sheaf_gp_manual_init(&manual, UINT64_MAX - 2);
	ck_assert_int_eq(sheaf_ck_memory_init(&memory, &manual.gp), 0);
}

/* Nothing is live, whatever is retired; one step is enough. */
static void end(void)
{
	size_t live = 7;
	int err = sheaf_ck_memory_fini(&memory, &live);

	if (err) {
		ck_assert_int_eq(err, -EDEADLK);
		sheaf_gp_manual_step(&manual);
		err = sheaf_ck_memory_fini(&memory, &live);
	}
	ck_assert_uint_eq(live, 0);
	ck_assert_int_eq(err, 0);
}

/*
 * Sizes.
 */
START_TEST(every_size_is_aligned_and_whole)
{
	begin();
	for (size_t bytes = 0; bytes < 300000; bytes += 1 + bytes / 100) {
		void *block = allocator.malloc(bytes);

		ck_assert_ptr_nonnull(block);
		ck_assert_uint_eq((uintptr_t)block % _Alignof(max_align_t), 0);
		memset(block, 0xa5, bytes);
		allocator.free(block, bytes, false);
	}
	end();
}
END_TEST

/* A block that grows stays where it is within its class; no class is wider than a quarter. */
START_TEST(classes_are_a_quarter_wide)
{
	unsigned ends = 0;

	begin();
	for (size_t bytes = 16; bytes <= SHEAF_CK_CLASS_MAX; bytes += 16) {
		void *block = allocator.malloc(bytes - 15), *more;

		ck_assert(allocator.realloc(block, bytes - 15, bytes, false) == block);
		more = allocator.realloc(block, bytes, bytes + 1, false);
		if (more != block)
			ends++;
		block = more;
		more = allocator.realloc(block, bytes + 1, bytes + 1 + bytes / 4, false);
		ck_assert(bytes < 64 || more != block);
		allocator.free(more, bytes + 1 + bytes / 4, false);
	}
	ck_assert_uint_eq(ends, SHEAF_CK_CLASSES);
	end();
}
END_TEST

START_TEST(too_large_for_any_memory)
{
	void *block;

	begin();
	ck_assert_ptr_null(allocator.malloc(SIZE_MAX));
	ck_assert_ptr_null(allocator.malloc(SIZE_MAX - 64));
	ck_assert_ptr_null(allocator.malloc(PTRDIFF_MAX));
	block = allocator.malloc(100);
	ck_assert_ptr_null(allocator.realloc(block, 100, SIZE_MAX, true));
	ck_assert_ptr_null(allocator.realloc(block, 100, SIZE_MAX, false));
	allocator.free(block, 100, false);
	end();
}
END_TEST

/*
 * Deferred or not.
 */
static const size_t some_sizes[] = {1, 64, 65, 1000, 4096, 30000, 65536, 65537, 300000};
#define SOME_SIZES (sizeof(some_sizes) / sizeof(some_sizes[0]))

START_TEST(deferred_is_not_given_out_before_its_time)
{
	size_t bytes = some_sizes[_i];
	unsigned char *retired[3], *other[BLOCKS];

	begin();
	for (unsigned i = 0; i < 3; i++) {
		retired[i] = allocator.malloc(bytes);
		fill(retired[i], bytes, i);
	}
	sheaf_ck_memory_shrink(&memory);
	for (unsigned i = 0; i < 3; i++)
		allocator.free(retired[i], bytes, true);
	/* Nothing is free. */
	ck_assert_uint_eq(sheaf_ck_memory_shrink(&memory), 0);
	for (unsigned i = 0; i < BLOCKS; i++) {
		other[i] = allocator.malloc(bytes);
		fill(other[i], bytes, 100 + i);
	}
	for (unsigned i = 0; i < 3; i++)
		ck_assert(filled(retired[i], bytes, i));
	for (unsigned i = 0; i < BLOCKS; i++)
		allocator.free(other[i], bytes, false);
	sheaf_ck_memory_shrink(&memory);
	sheaf_gp_manual_step(&manual);
	ck_assert_uint_eq(sheaf_ck_memory_shrink(&memory), 3);
	end();
}
END_TEST

START_TEST(not_deferred_is_free_at_once)
{
	size_t bytes = some_sizes[_i];
	void *block[3];

	begin();
	for (unsigned i = 0; i < 3; i++)
		block[i] = allocator.malloc(bytes);
	sheaf_ck_memory_shrink(&memory);
	for (unsigned i = 0; i < 3; i++)
		allocator.free(block[i], bytes, false);
	/* Large ones are back in malloc already. */
	ck_assert_uint_eq(sheaf_ck_memory_shrink(&memory), bytes > SHEAF_CK_CLASS_MAX ? 0 : 3);
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, NULL), 0);
}
END_TEST

/* Without a call that asks for it: any call for a large block frees what is ripe of them. */
START_TEST(large_blocks_do_not_wait_for_their_size)
{
	void *block;

	begin();
	block = allocator.malloc(100000);
	allocator.free(block, 100000, true);
	sheaf_gp_manual_step(&manual);
	block = allocator.malloc(500000);
	ck_assert_uint_eq(sheaf_ck_memory_shrink(&memory), 0);
	allocator.free(block, 500000, false);
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, NULL), 0);
}
END_TEST

/*
 * Realloc.
 */
static void *call_from_another_thread(void *arg)
{
	(void)arg;
	allocator.free(allocator.malloc(100), 100, false);
	allocator.free(allocator.malloc(100000), 100000, false);
	sheaf_ck_memory_shrink(&memory);
	return NULL;
}

static void other_thread_and_step(void)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, call_from_another_thread, NULL), 0);
	pthread_join(thread, NULL);
	sheaf_gp_manual_step(&manual);
}

/* However long the caller takes to publish the new block, whatever other threads do. */
START_TEST(moved_waits_for_the_next_call_of_its_thread)
{
	size_t from = some_sizes[_i], to = some_sizes[(_i + 2u) % SOME_SIZES];
	size_t kept = from < to ? from : to;
	unsigned char *old, *moved, *other;

	begin();
	old = allocator.malloc(from);
	fill(old, from, 1);
	sheaf_ck_memory_shrink(&memory);
	moved = allocator.realloc(old, from, to, true);
	ck_assert(moved && moved != old);
	ck_assert(filled(moved, kept, 1));
	for (unsigned i = 0; i < 3; i++)
		other_thread_and_step();
	ck_assert(filled(old, from, 1));
	/* From now on it is retired, */
	other = allocator.malloc(from);
	ck_assert(other != old);
	fill(other, from, 2);
	ck_assert(filled(old, from, 1));
	sheaf_ck_memory_shrink(&memory);
	ck_assert(filled(old, from, 1));
	/* and then ripe; the note of it was in a block as well. */
	sheaf_gp_manual_step(&manual);
	ck_assert_uint_eq(sheaf_ck_memory_shrink(&memory), 1);
	allocator.free(other, from, false);
	allocator.free(moved, to, false);
	end();
}
END_TEST

START_TEST(fini_retires_what_was_moved)
{
	size_t live;
	void *block;

	begin();
	block = allocator.realloc(allocator.malloc(100), 100, 1000, true);
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), -EDEADLK);
	sheaf_gp_manual_step(&manual);
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), -EBUSY);
	ck_assert_uint_eq(live, 1);
	allocator.free(block, 1000, false);
	end();
}
END_TEST

START_TEST(realloc_not_deferred_frees_at_once)
{
	unsigned char *block;
	size_t before;

	begin();
	block = allocator.realloc(NULL, 0, 300, false);
	fill(block, 300, 5);
	before = sheaf_ck_memory_shrink(&memory);
	block = allocator.realloc(block, 300, 100000, false);
	ck_assert(filled(block, 300, 5));
	ck_assert_uint_eq(sheaf_ck_memory_shrink(&memory), 1);
	block = allocator.realloc(block, 100000, 100, false);
	ck_assert(filled(block, 100, 5));
	allocator.free(block, 100, false);
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, NULL), 0);
	ck_assert_uint_gt(before, 0);
}
END_TEST

/*
 * Without memory.
 */
static unsigned refused;

/* A block from what is there, and its contents stay as they are if there is nothing. */
static void try_block(size_t bytes, size_t to, bool deferred)
{
	unsigned char *block = allocator.malloc(bytes), *moved;

	refused += !block;
	if (!block)
		return;
	fill(block, bytes, 9);
	moved = allocator.realloc(block, bytes, to, deferred);
	refused += !moved;
	if (moved) {
		block = moved;
		bytes = bytes < to ? bytes : to;
	}
	ck_assert(filled(block, bytes, 9));
	allocator.free(block, moved ? to : bytes, deferred);
}

static bool try_all(unsigned nth, bool all)
{
	struct sheaf_gp_urcu urcu;
	size_t live;
	bool failed;

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	ck_assert_int_eq(sheaf_ck_memory_init(&memory, &urcu.gp), 0);
	refused = 0;
	test_fail_nth(nth, all);
	for (unsigned i = 0; i < 2; i++) {
		try_block(100, 3000, i % 2);
		try_block(3000, 90000, i % 2);
		try_block(90000, 200000, i % 2);
		try_block(200000, 100, i % 2);
		sheaf_ck_memory_shrink(&memory);
	}
	failed = test_fail_end();
	if (!failed)
		ck_assert_uint_eq(refused, 0);
	if (all && failed && nth == 0)
		ck_assert_uint_eq(refused, 8);
	/* It works as ever. */
	refused = 0;
	try_block(3000, 200000, true);
	ck_assert_uint_eq(refused, 0);
	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), 0);
	ck_assert_uint_eq(live, 0);
	sheaf_gp_urcu_fini(&urcu);
	return failed;
}

START_TEST(every_allocation_fails)
{
	unsigned n = 0;

	while (try_all(n, _i))
		n++;
	ck_assert_uint_gt(n, 20);
}
END_TEST

/*
 * Beginning and end.
 */
START_TEST(fini_tells_what_is_live)
{
	void *block[SOME_SIZES];
	size_t live = 7;

	begin();
	for (unsigned i = 0; i < SOME_SIZES; i++)
		block[i] = allocator.malloc(some_sizes[i]);
	for (unsigned i = 0; i < SOME_SIZES; i++) {
		ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), -EBUSY);
		ck_assert_uint_eq(live, SOME_SIZES - i);
		allocator.free(block[i], some_sizes[i], true);
		ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), -EDEADLK);
		ck_assert_uint_eq(live, 0);
		/* It goes on meanwhile. */
		allocator.free(allocator.malloc(200), 200, false);
		sheaf_gp_manual_step(&manual);
	}
	end();
}
END_TEST

START_TEST(before_init_and_after_fini)
{
	size_t live = 7;

	for (unsigned i = 0; i < 2; i++) {
		ck_assert_ptr_null(allocator.malloc(100));
		ck_assert_ptr_null(allocator.malloc(100000));
		ck_assert_ptr_null(allocator.realloc(NULL, 0, 100, true));
		allocator.free(NULL, 100, true);
		ck_assert_uint_eq(sheaf_ck_memory_shrink(&memory), 0);
		ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), 0);
		ck_assert_uint_eq(live, 0);
		ck_assert_int_eq(sheaf_ck_memory_init(&memory, NULL), -EINVAL);
		begin();
		allocator.free(allocator.malloc(100), 100, false);
		end();
	}
}
END_TEST

START_TEST(child_goes_on)
{
	void *small, *large, *moved;
	int status = -1;
	pid_t child;

	begin();
	small = allocator.malloc(100);
	large = allocator.malloc(100000);
	allocator.free(allocator.malloc(100000), 100000, true);
	allocator.free(allocator.malloc(100), 100, true);
	moved = allocator.realloc(allocator.malloc(500), 500, 70000, true);
	child = fork();
	allocator.free(small, 100, true);
	allocator.free(large, 100000, true);
	allocator.free(moved, 70000, false);
	if (child == 0) {
		sheaf_ck_memory_fini(&memory, NULL);
		sheaf_gp_manual_step(&manual);
		_exit(sheaf_ck_memory_fini(&memory, NULL) != 0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	end();
}
END_TEST

static void free_what_never_was(void *arg)
{
	begin();
	allocator.free(arg, 1000, false);
}

START_TEST(misuse_is_told)
{
	ck_assert(test_dies(free_what_never_was, &manual, "freed a block of 1000 bytes"));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ck_malloc");
	TCase *tc = tcase_create("unit");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_test(tc, before_init_and_after_fini);
	tcase_add_test(tc, every_size_is_aligned_and_whole);
	tcase_add_test(tc, classes_are_a_quarter_wide);
	tcase_add_test(tc, too_large_for_any_memory);
	tcase_add_loop_test(tc, deferred_is_not_given_out_before_its_time, 0, SOME_SIZES);
	tcase_add_loop_test(tc, not_deferred_is_free_at_once, 0, SOME_SIZES);
	tcase_add_test(tc, large_blocks_do_not_wait_for_their_size);
	tcase_add_loop_test(tc, moved_waits_for_the_next_call_of_its_thread, 0, SOME_SIZES);
	tcase_add_test(tc, fini_retires_what_was_moved);
	tcase_add_test(tc, realloc_not_deferred_frees_at_once);
	tcase_add_loop_test(tc, every_allocation_fails, 0, 2);
	tcase_add_test(tc, fini_tells_what_is_live);
	tcase_add_test(tc, child_goes_on);
	tcase_add_test(tc, misuse_is_told);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
