/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of debug mode: each wrong call is reported once, with its kind, the object, and who allocated and freed
 * it; it changes nothing else; calls that are right are not reported. Failures are the
 * same for the same seed. Leaks come once for each chain of calls, without memory one by one. A sheaf that another
 * thread is at stays lent. What is in quarantine is had before an allocation fails.
 * The word none keeps off a checker, for the caches that its part is for.
 */
#define _GNU_SOURCE
#include "watched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(right_use_is_silent)
{
	void *objects[40], *more[40];
	struct sheaf *sheaf;

	watched_begin((struct sheaf_debug_attr){
		.flags = WATCHED_ALL, .quarantine = _i & 1 ? 5 : 0, .sample = _i & 2 ? 3 : 0});
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 40; i++) {
			objects[i] = watched_get();
			memset(objects[i], (int)i, WATCHED_SIZE);
		}
		ck_assert_uint_eq(sheaf_cache_alloc_bulk(watched, 0, 40, more), 40);
		for (unsigned i = 0; i < 40; i++)
			for (unsigned k = 0; k < WATCHED_SIZE; k++)
				ck_assert_uint_eq(((unsigned char *)objects[i])[k], i);
		sheaf_cache_free_bulk(watched, 20, more);
		for (unsigned i = 20; i < 40; i++)
			sheaf_cache_free_rcu(watched, more[i]);
		sheaf = sheaf_cache_prefill(watched, 10, 0);
		ck_assert_ptr_nonnull(sheaf);
		for (unsigned i = 0; i < 8; i++)
			more[i] = sheaf_cache_alloc_from(watched, sheaf);
		ck_assert_int_eq(sheaf_cache_refill(watched, &sheaf, 300, 0), 0);
		sheaf_cache_return(watched, sheaf);
		for (unsigned i = 0; i < 8; i++)
			sheaf_cache_free_nowait(watched, more[i]);
		for (unsigned i = 0; i < 20; i++)
			sheaf_cache_free(watched, objects[i]);
		for (unsigned i = 20; i < 40; i++)
			sheaf_cache_free_rcu_nowait(watched, objects[i]);
		more[0] = sheaf_cache_alloc_nowait(watched);
		sheaf_cache_free(watched, more[0]);
		if (round % 3 == 0)
			watched_ripen();
	}
	watched_end();
	ck_assert_msg(watched_seen.n == 0, "%s", watched_seen.text);
}
END_TEST

START_TEST(double_free)
{
	void *object;

	watched_begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_OWNER |
							 (_i ? SHEAF_DEBUG_TRACE : 0)});
	object = watched_get();
	sheaf_cache_free(watched, object);
	sheaf_cache_free(watched, object);
	watched_expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	ck_assert_uint_ge(watched_seen.last.allocated.n, _i ? 2 : 1);
	ck_assert_uint_ge(watched_seen.last.freed.n, _i ? 2 : 1);
	ck_assert_uint_ge(watched_seen.last.here.n, _i ? 2 : 1);
	if (!watched_first_is_ours())
		ck_assert_ptr_ne(watched_seen.last.here.frames[0],
				 watched_seen.last.freed.frames[0]);
	ck_assert_uint_eq(watched_seen.last.freed.thread, (uint32_t)gettid());
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "double free"));
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "  allocated by thread"));
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "  freed by thread"));
	sheaf_cache_free_bulk(watched, 1, &object);
	watched_expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	sheaf_cache_free_nowait(watched, object);
	watched_expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	sheaf_cache_free_rcu(watched, object);
	watched_expect(SHEAF_DEBUG_RETIRE_FREE, object);
	sheaf_cache_free_rcu_nowait(watched, object);
	watched_expect(SHEAF_DEBUG_RETIRE_FREE, object);
	/* Nothing was put in twice. */
	ck_assert_ptr_eq(watched_get(), object);
	ck_assert_ptr_ne(sheaf_cache_alloc_nowait(watched), object);
	watched_seen.n = 0;
	sheaf_cache_free(watched, object);
	ck_assert_uint_eq(watched_seen.n, 0);
	ck_assert_int_eq(sheaf_cache_destroy(watched, NULL), -EBUSY);
}
END_TEST

START_TEST(retired_objects)
{
	void *object;

	watched_begin((struct sheaf_debug_attr){.flags = WATCHED_ALL});
	object = watched_get();
	sheaf_cache_free_rcu(watched, object);
	sheaf_cache_free_rcu(watched, object);
	watched_expect(SHEAF_DEBUG_RETIRE_TWICE, object);
	sheaf_cache_free(watched, object);
	watched_expect(SHEAF_DEBUG_FREE_RETIRED, object);
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "  retired by thread"));
	sheaf_cache_free_nowait(watched, object);
	watched_expect(SHEAF_DEBUG_FREE_RETIRED, object);
	watched_ripen();
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

START_TEST(pointers_that_are_no_objects)
{
	struct sheaf_cache *other;
	char outside[64];
	char *object, *theirs;

	watched_begin((struct sheaf_debug_attr){.flags = WATCHED_ALL});
	other = watched_make((struct sheaf_debug_attr){.flags = WATCHED_ALL},
			     (struct sheaf_cache_attr){.name = "other"});
	object = watched_get();
	theirs = sheaf_cache_alloc(other, 0);
	sheaf_cache_free(watched, outside);
	watched_expect(SHEAF_DEBUG_NO_OBJECT, outside);
	ck_assert_str_eq(watched_seen.owner, "");
	sheaf_cache_free(watched, object + 8);
	watched_expect(SHEAF_DEBUG_NO_OBJECT, object + 8);
	ck_assert_int_eq(watched_seen.last.offset, 8);
	sheaf_cache_free(watched, object - 3);
	watched_expect(SHEAF_DEBUG_NO_OBJECT, object - 3);
	ck_assert_int_eq(watched_seen.last.offset, -3);
	sheaf_cache_free(watched, (void *)16);
	watched_expect(SHEAF_DEBUG_NO_OBJECT, (void *)16);
	sheaf_cache_free(watched, theirs);
	watched_expect(SHEAF_DEBUG_WRONG_CACHE, theirs);
	ck_assert_str_eq(watched_seen.owner, "other");
	sheaf_cache_free_rcu(watched, theirs);
	watched_expect(SHEAF_DEBUG_WRONG_CACHE, theirs);
	sheaf_cache_free(other, theirs);
	ck_assert_uint_eq(watched_seen.n, 0);
	ck_assert_int_eq(sheaf_cache_destroy(other, NULL), 0);
	sheaf_cache_free(watched, object);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

/* Which of so many allocations fail: the same for the same seed. */
static uint64_t failures(uint64_t seed, uint32_t fail)
{
	uint64_t which = 0;

	watched_begin((struct sheaf_debug_attr){.fail = fail, .seed = seed});
	for (unsigned i = 0; i < 64; i++) {
		void *object = sheaf_cache_alloc(watched, 0);

		which |= (uint64_t)!object << i;
		sheaf_cache_free(watched, object);
	}
	watched_end();
	return which;
}

START_TEST(failures_are_those_of_the_seed)
{
	unsigned many = 0;

	ck_assert_uint_eq(failures(7, 4), failures(7, 4));
	ck_assert_uint_ne(failures(7, 4), failures(8, 4));
	ck_assert_uint_eq(failures(7, 1), UINT64_MAX);
	for (uint64_t seed = 0; seed < 32; seed++)
		many += (unsigned)__builtin_popcountll(failures(seed, 4));
	ck_assert_uint_ge(many, 32 * 16 * 3 / 4);
	ck_assert_uint_le(many, 32 * 16 * 5 / 4);
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

START_TEST(failures_of_other_calls)
{
	void *objects[16];
	unsigned fewer = 0;
	struct sheaf *sheaf, *lent;

	watched_begin((struct sheaf_debug_attr){.fail = 2, .seed = 3});
	while ((lent = sheaf_cache_prefill(watched, 8, 0)) == NULL)
		fewer |= 1;
	for (unsigned i = 0; i < 64; i++) {
		size_t got = sheaf_cache_alloc_bulk(watched, 0, 16, objects);

		ck_assert_uint_le(got, 16);
		fewer |= got < 16 ? 2 : 0;
		sheaf_cache_free_bulk(watched, got, objects);
		sheaf = sheaf_cache_prefill(watched, 4, 0);
		fewer |= sheaf ? 0 : 1;
		sheaf_cache_return(watched, sheaf);
		fewer |= sheaf_cache_refill(watched, &lent, 8, 0) == -ENOMEM ? 4 : 0;
		objects[0] = sheaf_cache_alloc_nowait(watched);
		fewer |= objects[0] ? 0 : 8;
		sheaf_cache_free(watched, objects[0]);
	}
	ck_assert_uint_eq(fewer, 15);
	for (unsigned i = 0; i < 8; i++) {
		objects[0] = sheaf_cache_alloc_from(watched, lent);
		ck_assert_ptr_nonnull(objects[0]);
		sheaf_cache_free(watched, objects[0]);
	}
	sheaf_cache_return(watched, lent);
	watched_end();
}
END_TEST

static void *leaked[16];

static __attribute__((noinline)) void leak_here(unsigned i)
{
	leaked[i] = sheaf_cache_alloc(watched, 0);
}

static __attribute__((noinline)) void leak_there(unsigned i)
{
	leaked[i] = sheaf_cache_alloc(watched, 0);
	compiler_barrier();
}

START_TEST(leaks_come_by_their_chain)
{
	struct sheaf *sheaf;
	size_t live;

	watched_begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_LEAKS |
							 (_i ? SHEAF_DEBUG_TRACE : 0)});
	/* One call for both. */
	for (volatile unsigned i = 0; i < 13; i++)
		(i < 10 ? leak_here : leak_there)(i);
	sheaf = sheaf_cache_prefill(watched, 2, 0);
	ck_assert_int_eq(sheaf_cache_destroy(watched, &live), -EBUSY);
	/* The sheaf; then ten of one chain and three of another. */
	ck_assert_uint_eq(watched_seen.leaked, 1 + 13);
	if (_i || !watched_first_is_ours()) {
		ck_assert_uint_eq(watched_seen.n, 3);
		ck_assert(watched_seen.last.count == 10 || watched_seen.last.count == 3);
	}
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "  allocated by thread"));
	/* Without memory for sorting, each by itself. */
	watched_seen.n = watched_seen.leaked = 0;
	test_fail_nth(0, true);
	ck_assert_int_eq(sheaf_cache_destroy(watched, &live), -EBUSY);
	ck_assert(test_fail_end());
	ck_assert_uint_eq(watched_seen.n, 1 + 13);
	ck_assert_uint_eq(watched_seen.leaked, 1 + 13);
	sheaf_cache_return(watched, sheaf);
	for (unsigned i = 0; i < 13; i++)
		sheaf_cache_free(watched, leaked[i]);
	watched_end();
}
END_TEST

START_TEST(prefilled_sheaves)
{
	struct sheaf *sheaf;
	void *objects[8];

	watched_begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_STRICT});
	sheaf = sheaf_cache_prefill(watched, 3, 0);
	for (unsigned i = 0; i < 3; i++)
		objects[i] = sheaf_cache_alloc_from(watched, sheaf);
	ck_assert_uint_eq(watched_seen.n, 0);
	ck_assert_ptr_null(sheaf_cache_alloc_from(watched, sheaf));
	watched_expect(SHEAF_DEBUG_OVERUSE, sheaf);
	/* Somebody else is inside. */
	sheaf->link = sheaf;
	ck_assert_int_eq(sheaf_cache_refill(watched, &sheaf, 2, 0), -ENOMEM);
	watched_expect(SHEAF_DEBUG_SHARED_SHEAF, sheaf);
	sheaf->link = NULL;
	ck_assert_int_eq(sheaf_cache_refill(watched, &sheaf, 2, 0), 0);
	sheaf->link = sheaf;
	ck_assert_ptr_null(sheaf_cache_alloc_from(watched, sheaf));
	watched_expect(SHEAF_DEBUG_SHARED_SHEAF, sheaf);
	sheaf->link = NULL;
	objects[3] = sheaf_cache_alloc_from(watched, sheaf);
	ck_assert_ptr_nonnull(objects[3]);
	/* Who is inside will still write to link, so nobody may chain it by that. */
	sheaf->link = sheaf;
	sheaf_cache_return(watched, sheaf);
	watched_expect(SHEAF_DEBUG_SHARED_SHEAF, sheaf);
	ck_assert_ptr_eq(sheaf->link, sheaf);
	ck_assert(sheaf->mark & MARK_LENT);
	sheaf->link = NULL;
	sheaf_cache_return(watched, sheaf);
	sheaf_cache_free_bulk(watched, 4, objects);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

START_TEST(sheaves_of_other_caches)
{
	struct sheaf_cache *other;
	struct sheaf *sheaf, *same;
	void *object;

	watched_begin((struct sheaf_debug_attr){.flags = WATCHED_ALL});
	other = watched_make((struct sheaf_debug_attr){.flags = WATCHED_ALL},
			     (struct sheaf_cache_attr){.name = "other"});
	same = sheaf = sheaf_cache_prefill(other, 3, _i ? SHEAF_STRICT : 0);
	ck_assert_ptr_nonnull(sheaf);
	/* Nothing is done: it goes on with its own. */
	ck_assert_ptr_null(sheaf_cache_alloc_from(watched, sheaf));
	watched_expect(SHEAF_DEBUG_WRONG_SHEAF, sheaf);
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "prefilled sheaf of another cache"));
	ck_assert_ptr_nonnull(strstr(watched_seen.text, ", of cache other"));
	ck_assert_str_eq(watched_seen.last.owner, "other");
	ck_assert_int_eq(sheaf_cache_refill(watched, &sheaf, 300, 0), -ENOMEM);
	watched_expect(SHEAF_DEBUG_WRONG_SHEAF, sheaf);
	ck_assert_ptr_eq(sheaf, same);
	sheaf_cache_return(watched, sheaf);
	watched_expect(SHEAF_DEBUG_WRONG_SHEAF, sheaf);
	ck_assert_uint_eq(sheaf->size, 3);
	object = sheaf_cache_alloc_from(other, sheaf);
	ck_assert_ptr_nonnull(object);
	/* A larger one is still the other's. */
	ck_assert_int_eq(sheaf_cache_refill(other, &sheaf, 300, 0), 0);
	ck_assert_uint_eq(watched_seen.n, 0);
	sheaf_cache_return(watched, sheaf);
	watched_expect(SHEAF_DEBUG_WRONG_SHEAF, sheaf);
	sheaf_cache_return(other, sheaf);
	sheaf_cache_free(other, object);
	ck_assert_int_eq(sheaf_cache_destroy(other, NULL), 0);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

/* It lies in the slot, or elsewhere, by then. */
START_TEST(sheaves_after_their_return)
{
	void *objects[2];
	struct sheaf *sheaf, *same;

	watched_begin((struct sheaf_debug_attr){.flags = WATCHED_ALL});
	same = sheaf = sheaf_cache_prefill(watched, 2, _i ? SHEAF_STRICT : 0);
	ck_assert_ptr_nonnull(sheaf);
	sheaf_cache_return(watched, sheaf);
	ck_assert_uint_eq(watched_seen.n, 0);
	sheaf_cache_return(watched, sheaf);
	watched_expect(SHEAF_DEBUG_RETURNED_SHEAF, sheaf);
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "prefilled sheaf used after its return"));
	ck_assert_ptr_null(sheaf_cache_alloc_from(watched, sheaf));
	watched_expect(SHEAF_DEBUG_RETURNED_SHEAF, sheaf);
	ck_assert_int_eq(sheaf_cache_refill(watched, &sheaf, 2, 0), -ENOMEM);
	watched_expect(SHEAF_DEBUG_RETURNED_SHEAF, sheaf);
	ck_assert_ptr_eq(sheaf, same);
	/* In a chain its link says nothing of borrowers. */
	sheaf->link = sheaf;
	sheaf_cache_return(watched, sheaf);
	watched_expect(SHEAF_DEBUG_RETURNED_SHEAF, sheaf);
	ck_assert_ptr_eq(sheaf->link, sheaf);
	sheaf->link = NULL;
	ck_assert(sheaf_cache_check(watched));
	/* Nothing has been done: it may be lent again, and holds what it held. */
	sheaf = sheaf_cache_prefill(watched, 2, 0);
	for (unsigned i = 0; i < 2; i++) {
		objects[i] = sheaf_cache_alloc_from(watched, sheaf);
		ck_assert_ptr_nonnull(objects[i]);
	}
	ck_assert_ptr_ne(objects[0], objects[1]);
	sheaf_cache_return(watched, sheaf);
	sheaf_cache_free_bulk(watched, 2, objects);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

/*
 * A backend that gives a block which it has given already: in the same call, or in a later one.
 */
static struct {
	char blocks[4][WATCHED_SIZE] __attribute__((aligned(16)));
	const char *order;
	unsigned out;
} faulty;

static size_t faulty_alloc(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	size_t got = 0;

	(void)ctx;
	(void)node;
	(void)flags;
	for (; got < n && *faulty.order && *faulty.order != ','; faulty.order++)
		objects[got++] = faulty.blocks[*faulty.order - '0'];
	if (*faulty.order == ',')
		faulty.order++;
	faulty.out += (unsigned)got;
	return got;
}

static void faulty_free(void *ctx, size_t n, void *const *objects)
{
	(void)ctx;
	(void)objects;
	faulty.out -= (unsigned)n;
}

static const struct sheaf_backend_ops faulty_ops = {
	.name = "faulty", .alloc_bulk = faulty_alloc, .free_bulk = faulty_free};

START_TEST(backend_that_gives_twice)
{
	static const char *const orders[] = {"010,2,3", "01,20,3"};
	void *objects[4];
	size_t n;

	faulty.order = orders[_i];
	faulty.out = 0;
	sheaf_gp_manual_init(&watched_manual, 0);
	watched = watched_make((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_OWNER},
			       (struct sheaf_cache_attr){.backend = {.ops = &faulty_ops}});
	n = sheaf_cache_alloc_bulk(watched, 0, 3 - (size_t)_i, objects);
	n += sheaf_cache_alloc_bulk(watched, 0, 4 - n, objects + n);
	watched_expect(SHEAF_DEBUG_BACKEND, faulty.blocks[0]);
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "backend gave an object that is out"));
	/* Nobody has it twice, and it goes back once. */
	ck_assert_uint_ge(n, 3);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < i; k++)
			ck_assert_ptr_ne(objects[i], objects[k]);
	watched_seen.n = 0;
	sheaf_cache_free_bulk(watched, n, objects);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
	ck_assert_uint_eq(faulty.out, 1);
}
END_TEST

/* The backend has no more: what is in quarantine is had before an allocation fails, from either node. */
START_TEST(quarantine_before_failure)
{
	void *objects[4], *again[5];

	faulty.order = "0123";
	faulty.out = 0;
	sheaf_gp_manual_init(&watched_manual, 0);
	watched = watched_make((struct sheaf_debug_attr){.quarantine = 8},
			       (struct sheaf_cache_attr){.backend = {.ops = &faulty_ops},
							 .nodes = 2,
							 .current_node = on_first_node});
	ck_assert_uint_eq(sheaf_cache_alloc_bulk(watched, 0, 4, objects), 4);
	sheaf_cache_free_bulk(watched, 4, objects);
	ck_assert_uint_eq(debug_held_back(watched->watch->debug), 4);
	for (unsigned i = 0; i < 5; i++)
		again[i] = sheaf_cache_alloc_node(watched, 0, _i);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_ptr_nonnull(again[i]);
	ck_assert_ptr_null(again[4]);
	sheaf_cache_free_bulk(watched, 4, again);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
	ck_assert_uint_eq(faulty.out, 0);
}
END_TEST

/* Is a checker that is found at run time kept off? */
START_TEST(none_is_a_word_as_others)
{
	static const struct {
		const char *text;
		const char *name;
		bool none;
	} cases[] = {
		{"none", "a", true},          {"", "a", false},
		{"none;", "a", true},         {"none:a", "a", true},
		{"none:a", "b", false},       {",none,", "a", true},
		{"none:a;poison", "a", true}, {"none:b;poison", "a", false},
		{"poison:b;none", "a", true}, {"none:a*;poison:b", "ab", true},
		{"nonesuch", "a", false},     {"seed=1", "a", false},
	};
	struct sheaf_debug_attr found;
	bool none = !cases[_i].none;

	setenv("SHEAF_DEBUG", cases[_i].text, 1);
	found = debug_words(cases[_i].name, &none);
	unsetenv("SHEAF_DEBUG");
	ck_assert_int_eq(none, cases[_i].none);
	ck_assert(!none || !found.flags);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("debug");
	TCase *tc = tcase_create("unit");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, right_use_is_silent, 0, 4);
	tcase_add_loop_test(tc, double_free, 0, 2);
	tcase_add_test(tc, retired_objects);
	tcase_add_test(tc, pointers_that_are_no_objects);
	tcase_add_test(tc, failures_are_those_of_the_seed);
	tcase_add_test(tc, failures_of_other_calls);
	tcase_add_loop_test(tc, leaks_come_by_their_chain, 0, 2);
	tcase_add_loop_test(tc, sheaves_of_other_caches, 0, 2);
	tcase_add_loop_test(tc, sheaves_after_their_return, 0, 2);
	tcase_add_test(tc, prefilled_sheaves);
	tcase_add_loop_test(tc, backend_that_gives_twice, 0, 2);
	tcase_add_loop_test(tc, quarantine_before_failure, 0, 2);
	tcase_add_loop_test(tc, none_is_a_word_as_others, 0, 12);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
