/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of debug mode: each wrong use is reported once, with its kind, the object, the exact bytes, and who
 * allocated and freed it, through the callback and, in a child, by a message and abort(); the wrong call changes
 * nothing else; uses that are right are not reported. Objects keep their alignment with red zones. The
 * quarantine gives objects back in the order in which they came. Sampled objects end at their page, and
 * cannot be accessed once they are free. Failures are the same for the same seed. Leaks come once for each chain
 * of calls. And when memory ends at any point nothing is lost.
 */
#define _GNU_SOURCE
#include "base/memory.h"
#include "common.h"
#include "debug_state.h"
#include "watch.h"

#include <errno.h>
#include <sheaf/debug.h>
#include <sheaf/slab.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 48
#define MOST 64

static struct sheaf_gp_manual manual;
static struct sheaf_cache *cache;

static struct {
	unsigned n;
	enum sheaf_debug_kind kind[MOST];
	struct sheaf_debug_report last;
	char text[6144];
	char owner[32];
	size_t leaked;
} seen;

static void on_report(void *arg, const struct sheaf_debug_report *report)
{
	ck_assert_ptr_eq(arg, &seen);
	seen.kind[seen.n++ % MOST] = report->kind;
	seen.last = *report;
	snprintf(seen.text, sizeof(seen.text), "%s", report->text);
	snprintf(seen.owner, sizeof(seen.owner), "%s", report->owner ? report->owner : "");
	if (report->kind == SHEAF_DEBUG_LEAK)
		seen.leaked += report->count;
}

static struct sheaf_cache *make(struct sheaf_debug_attr debug, struct sheaf_cache_attr attr)
{
	struct sheaf_cache *made;

	debug.size = sizeof(debug);
	debug.report = on_report;
	debug.report_arg = &seen;
	attr.size = sizeof(attr);
	attr.debug = &debug;
	if (!attr.object_size)
		attr.object_size = SIZE;
	if (!attr.name)
		attr.name = "watched";
	attr.gp = &manual.gp;
	ck_assert_int_eq(sheaf_cache_create(&made, &attr), 0);
	seen.n = 0;
	seen.leaked = 0;
	return made;
}

static void begin(struct sheaf_debug_attr debug)
{
	sheaf_gp_manual_init(&manual, 0);
	cache = make(debug, (struct sheaf_cache_attr){0});
}

static void end(void)
{
	size_t live;

	if (sheaf_cache_barrier(cache) == -EDEADLK)
		sheaf_gp_manual_step(&manual);
	ck_assert(sheaf_cache_check(cache));
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), 0);
}

static void *get(void)
{
	void *object = sheaf_cache_alloc(cache, 0);

	ck_assert_ptr_nonnull(object);
	return object;
}

static void ripen(void)
{
	if (sheaf_cache_barrier(cache) == -EDEADLK)
		sheaf_gp_manual_step(&manual);
}

/* One report of this kind about this object, and no other. */
static void expect(enum sheaf_debug_kind kind, const void *object)
{
	ck_assert_msg(seen.n == 1, "%u reports, last %d: %s", seen.n, (int)seen.last.kind,
		      seen.text);
	ck_assert_int_eq(seen.last.kind, kind);
	ck_assert_ptr_eq(seen.last.object, object);
	ck_assert_str_eq(seen.last.cache, "watched");
	ck_assert_ptr_nonnull(strstr(seen.text, "libsheaf: cache watched: "));
	seen.n = 0;
}

#define EVERYTHING                                                                                 \
	(SHEAF_DEBUG_POISON | SHEAF_DEBUG_REDZONE | SHEAF_DEBUG_OWNER | SHEAF_DEBUG_TRACE |        \
	 SHEAF_DEBUG_LEAKS)

START_TEST(right_use_is_silent)
{
	void *objects[40], *more[40];
	struct sheaf *sheaf;

	begin((struct sheaf_debug_attr){
		.flags = EVERYTHING, .quarantine = _i & 1 ? 5 : 0, .sample = _i & 2 ? 3 : 0});
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 40; i++) {
			objects[i] = get();
			memset(objects[i], (int)i, SIZE);
		}
		ck_assert_uint_eq(sheaf_cache_alloc_bulk(cache, 0, 40, more), 40);
		for (unsigned i = 0; i < 40; i++)
			for (unsigned k = 0; k < SIZE; k++)
				ck_assert_uint_eq(((unsigned char *)objects[i])[k], i);
		sheaf_cache_free_bulk(cache, 20, more);
		for (unsigned i = 20; i < 40; i++)
			sheaf_cache_free_rcu(cache, more[i]);
		sheaf = sheaf_cache_prefill(cache, 10, 0);
		ck_assert_ptr_nonnull(sheaf);
		for (unsigned i = 0; i < 8; i++)
			more[i] = sheaf_cache_alloc_from(cache, sheaf);
		ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, 300, 0), 0);
		sheaf_cache_return(cache, sheaf);
		for (unsigned i = 0; i < 8; i++)
			sheaf_cache_free_nowait(cache, more[i]);
		for (unsigned i = 0; i < 20; i++)
			sheaf_cache_free(cache, objects[i]);
		for (unsigned i = 20; i < 40; i++)
			sheaf_cache_free_rcu_nowait(cache, objects[i]);
		more[0] = sheaf_cache_alloc_nowait(cache);
		sheaf_cache_free(cache, more[0]);
		if (round % 3 == 0)
			ripen();
	}
	end();
	ck_assert_msg(seen.n == 0, "%s", seen.text);
}
END_TEST

START_TEST(double_free)
{
	void *object;

	begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_OWNER | (_i ? SHEAF_DEBUG_TRACE : 0)});
	object = get();
	sheaf_cache_free(cache, object);
	sheaf_cache_free(cache, object);
	expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	ck_assert_uint_ge(seen.last.allocated.n, _i ? 2 : 1);
	ck_assert_uint_ge(seen.last.freed.n, _i ? 2 : 1);
	ck_assert_uint_ge(seen.last.here.n, _i ? 2 : 1);
	/* A sanitizer puts a call of ours before the user's. */
	if (!test_asan() && !test_tsan())
		ck_assert_ptr_ne(seen.last.here.frames[0], seen.last.freed.frames[0]);
	ck_assert_uint_eq(seen.last.freed.thread, (uint32_t)gettid());
	ck_assert_ptr_nonnull(strstr(seen.text, "double free"));
	ck_assert_ptr_nonnull(strstr(seen.text, "  allocated by thread"));
	ck_assert_ptr_nonnull(strstr(seen.text, "  freed by thread"));
	sheaf_cache_free_bulk(cache, 1, &object);
	expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	sheaf_cache_free_nowait(cache, object);
	expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	sheaf_cache_free_rcu(cache, object);
	expect(SHEAF_DEBUG_RETIRE_FREE, object);
	sheaf_cache_free_rcu_nowait(cache, object);
	expect(SHEAF_DEBUG_RETIRE_FREE, object);
	/* Nothing was put in twice. */
	ck_assert_ptr_eq(get(), object);
	ck_assert_ptr_ne(sheaf_cache_alloc_nowait(cache), object);
	seen.n = 0;
	sheaf_cache_free(cache, object);
	ck_assert_uint_eq(seen.n, 0);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), -EBUSY);
}
END_TEST

START_TEST(retired_objects)
{
	void *object;

	begin((struct sheaf_debug_attr){.flags = EVERYTHING});
	object = get();
	sheaf_cache_free_rcu(cache, object);
	sheaf_cache_free_rcu(cache, object);
	expect(SHEAF_DEBUG_RETIRE_TWICE, object);
	sheaf_cache_free(cache, object);
	expect(SHEAF_DEBUG_FREE_RETIRED, object);
	ck_assert_ptr_nonnull(strstr(seen.text, "  retired by thread"));
	sheaf_cache_free_nowait(cache, object);
	expect(SHEAF_DEBUG_FREE_RETIRED, object);
	ripen();
	end();
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

START_TEST(pointers_that_are_no_objects)
{
	struct sheaf_cache *other;
	char outside[64];
	char *object, *theirs;

	begin((struct sheaf_debug_attr){.flags = EVERYTHING});
	other = make((struct sheaf_debug_attr){.flags = EVERYTHING},
		     (struct sheaf_cache_attr){.name = "other"});
	object = get();
	theirs = sheaf_cache_alloc(other, 0);
	sheaf_cache_free(cache, outside);
	expect(SHEAF_DEBUG_NO_OBJECT, outside);
	ck_assert_str_eq(seen.owner, "");
	sheaf_cache_free(cache, object + 8);
	expect(SHEAF_DEBUG_NO_OBJECT, object + 8);
	ck_assert_int_eq(seen.last.offset, 8);
	sheaf_cache_free(cache, object - 3);
	expect(SHEAF_DEBUG_NO_OBJECT, object - 3);
	ck_assert_int_eq(seen.last.offset, -3);
	sheaf_cache_free(cache, (void *)16);
	expect(SHEAF_DEBUG_NO_OBJECT, (void *)16);
	sheaf_cache_free(cache, theirs);
	expect(SHEAF_DEBUG_WRONG_CACHE, theirs);
	ck_assert_str_eq(seen.owner, "other");
	sheaf_cache_free_rcu(cache, theirs);
	expect(SHEAF_DEBUG_WRONG_CACHE, theirs);
	sheaf_cache_free(other, theirs);
	ck_assert_uint_eq(seen.n, 0);
	ck_assert_int_eq(sheaf_cache_destroy(other, NULL), 0);
	sheaf_cache_free(cache, object);
	end();
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

/* Each byte before and behind the object, up to the next one; and none in it. */
START_TEST(red_zones_are_exact)
{
	static const size_t sizes[] = {1, 7, 8, 13, 16, 48, 100, 4096, 70000};
	static const size_t aligns[] = {0, 8, 64, 4096};
	size_t size = sizes[_i / 4], align = aligns[_i % 4];

	sheaf_gp_manual_init(&manual, 0);
	cache = make((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_REDZONE},
		     (struct sheaf_cache_attr){.object_size = size, .object_align = align});
	for (int behind = 0; behind < 2; behind++)
		for (ptrdiff_t away = 0; away < 16; away++) {
			unsigned char *object = get(), was;
			ptrdiff_t at = behind ? (ptrdiff_t)size + away : -1 - away;

			ck_assert_uint_eq((uintptr_t)object % (align       ? align
							       : size < 16 ? 8
									   : 16),
					  0);
			memset(object, 0xee, size);
			object_open(cache->watch->debug, object_find(object));
			was = object[at];
			object[at] ^= 0x40;
			sheaf_cache_free(cache, object);
			expect(behind ? SHEAF_DEBUG_WRITE_BEHIND : SHEAF_DEBUG_WRITE_BEFORE,
			       object);
			ck_assert_int_eq(seen.last.offset, at);
			ck_assert_uint_eq(seen.last.bytes, 1);
			/* Mended. */
			object = get();
			object_open(cache->watch->debug, object_find(object));
			ck_assert_uint_eq(object[at], was);
			object_close(cache->watch->debug, object_find(object));
			ck_assert_uint_eq(seen.n, 0);
			sheaf_cache_free(cache, object);
		}
	end();
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

/* Any byte of a free object, found at the next allocation, or when it goes to the backend. */
START_TEST(writes_after_free_are_found)
{
	bool retired = _i & 1, at_end = _i & 2;

	begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_POISON});
	for (size_t at = 0; at < SIZE; at++) {
		unsigned char *object = get(), *last = retired ? get() : NULL;
		size_t n = at + 3 <= SIZE ? 3 : 1;

		ck_assert_uint_eq(object[at], BYTE_FRESH);
		memset(object, BYTE_FREE, SIZE);
		if (retired) {
			sheaf_cache_free_rcu(cache, object);
			sheaf_cache_free_rcu(cache, last);
			ripen();
			/* Until their sheaf is taken they are as readers saw them. */
			while (get() != last)
				;
		} else {
			sheaf_cache_free(cache, object);
		}
		object_open(cache->watch->debug, object_find(object));
		object[at] = object[at + n - 1] = 1;
		if (at_end)
			sheaf_cache_shrink(cache);
		else
			while (sheaf_cache_alloc(cache, 0) != object)
				;
		expect(SHEAF_DEBUG_WRITE_AFTER_FREE, object);
		ck_assert_int_eq(seen.last.offset, (ptrdiff_t)at);
		ck_assert_uint_eq(seen.last.bytes, n);
		ck_assert_uint_ge(seen.last.freed.n, 1);
	}
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

/* Of a constructor: contents stay, and a change of them is found by its sum. */
static void construct(void *arg, size_t n, void *const *objects)
{
	for (size_t i = 0; i < n; i++)
		memset(objects[i], *(int *)arg, SIZE);
}

START_TEST(constructed_objects)
{
	int byte = 0x33;
	unsigned char *object;

	sheaf_gp_manual_init(&manual, 0);
	cache = make((struct sheaf_debug_attr){.flags = EVERYTHING, .sample = _i ? 2 : 0},
		     (struct sheaf_cache_attr){.ctor = construct, .ctor_arg = &byte});
	for (unsigned round = 0; round < 100; round++) {
		object = get();
		for (unsigned k = 0; k < SIZE; k++)
			ck_assert_uint_eq(object[k], byte);
		if (round % 2)
			sheaf_cache_free(cache, object);
		else
			sheaf_cache_free_rcu(cache, object);
	}
	ripen();
	if (!_i) {
		object = get();
		sheaf_cache_free(cache, object);
		object_open(cache->watch->debug, object_find(object));
		object[7]++;
		ck_assert_ptr_eq(get(), object);
		expect(SHEAF_DEBUG_WRITE_AFTER_FREE, object);
		object[7]--;
		sheaf_cache_free(cache, object);
	}
	end();
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

START_TEST(quarantine_is_in_order)
{
	void *objects[30];

	begin((struct sheaf_debug_attr){.quarantine = 10});
	for (unsigned i = 0; i < 30; i++)
		objects[i] = get();
	sheaf_cache_shrink(cache);
	for (unsigned i = 0; i < 30; i++) {
		if (_i)
			sheaf_cache_free_rcu(cache, objects[i]);
		else
			sheaf_cache_free(cache, objects[i]);
		/* What comes out is what went in ten frees ago. */
		if (!_i && i >= 10)
			ck_assert_ptr_eq(sheaf_cache_alloc_nowait(cache), objects[i - 10]);
	}
	if (_i) {
		unsigned again = 0;

		ripen();
		for (unsigned i = 0; i < 20; i++) {
			void *object = get();

			for (unsigned k = 0; k < 20; k++)
				again += object == objects[k];
		}
		ck_assert_uint_eq(again, 20);
	}
	/* All are had before the backend is asked for more. */
	ck_assert_uint_ge(sheaf_cache_shrink(cache), 10);
	ck_assert_int_eq(sheaf_cache_destroy(cache, NULL), -EBUSY);
}
END_TEST

static void read_object(void *object)
{
	*(volatile char *)object = 1;
}

/* Does an access end by SIGSEGV (or what a sanitizer makes of it)? */
static bool faults(char *address)
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		close(STDERR_FILENO);
		read_object(address);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

START_TEST(sampled_objects)
{
	size_t size = (size_t[]){48, 13, 4096, 5000}[_i];
	char *objects[6], *again;

	sheaf_gp_manual_init(&manual, 0);
	cache = make((struct sheaf_debug_attr){.flags = EVERYTHING, .sample = 2, .guards = 2},
		     (struct sheaf_cache_attr){.object_size = size, .object_align = 16});
	for (unsigned i = 0; i < 6; i++) {
		objects[i] = get();
		memset(objects[i], 7, size);
		ck_assert_uint_eq((uintptr_t)objects[i] % 16, 0);
	}
	/* The first and the third, then there are no guards any more. */
	for (unsigned i = 0; i < 6; i++) {
		uintptr_t behind = ((uintptr_t)objects[i] + size + 15) & ~(uintptr_t)15;

		ck_assert_int_eq(object_find(objects[i])->place != NULL, i == 0 || i == 2);
		if (object_find(objects[i])->place) {
			ck_assert_uint_eq(behind % 4096, 0);
			ck_assert(faults((char *)behind));
			ck_assert(!faults(objects[i]));
		}
	}
	if (size % 16) {
		object_open(cache->watch->debug, object_find(objects[0]));
		objects[0][size] = 1;
		sheaf_cache_free(cache, objects[0]);
		expect(SHEAF_DEBUG_WRITE_BEHIND, objects[0]);
	} else {
		sheaf_cache_free(cache, objects[0]);
	}
	ck_assert(faults(objects[0]));
	sheaf_cache_free(cache, objects[0]);
	expect(SHEAF_DEBUG_DOUBLE_FREE, objects[0]);
	/* A retired one can be read until it is ripe. */
	sheaf_cache_free_rcu(cache, objects[2]);
	ck_assert(!faults(objects[2]));
	ripen();
	again = get();
	(void)again;
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	sheaf_cache_shrink(cache);
	ck_assert(faults(objects[2]) || object_find(objects[2])->state == OBJECT_OUT);
	for (unsigned i = 1; i < 6; i++)
		if (i != 2)
			sheaf_cache_free(cache, objects[i]);
	sheaf_cache_free(cache, again);
	end();
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

/* Which of so many allocations fail: the same for the same seed. */
static uint64_t failures(uint64_t seed, uint32_t fail)
{
	uint64_t which = 0;

	begin((struct sheaf_debug_attr){.fail = fail, .seed = seed});
	for (unsigned i = 0; i < 64; i++) {
		void *object = sheaf_cache_alloc(cache, 0);

		which |= (uint64_t)!object << i;
		sheaf_cache_free(cache, object);
	}
	end();
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
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

START_TEST(failures_of_other_calls)
{
	void *objects[16];
	unsigned fewer = 0;
	struct sheaf *sheaf, *lent;

	begin((struct sheaf_debug_attr){.fail = 2, .seed = 3});
	while ((lent = sheaf_cache_prefill(cache, 8, 0)) == NULL)
		fewer |= 1;
	for (unsigned i = 0; i < 64; i++) {
		size_t got = sheaf_cache_alloc_bulk(cache, 0, 16, objects);

		ck_assert_uint_le(got, 16);
		fewer |= got < 16 ? 2 : 0;
		sheaf_cache_free_bulk(cache, got, objects);
		sheaf = sheaf_cache_prefill(cache, 4, 0);
		fewer |= sheaf ? 0 : 1;
		sheaf_cache_return(cache, sheaf);
		fewer |= sheaf_cache_refill(cache, &lent, 8, 0) == -ENOMEM ? 4 : 0;
		objects[0] = sheaf_cache_alloc_nowait(cache);
		fewer |= objects[0] ? 0 : 8;
		sheaf_cache_free(cache, objects[0]);
	}
	ck_assert_uint_eq(fewer, 15);
	for (unsigned i = 0; i < 8; i++) {
		objects[0] = sheaf_cache_alloc_from(cache, lent);
		ck_assert_ptr_nonnull(objects[0]);
		sheaf_cache_free(cache, objects[0]);
	}
	sheaf_cache_return(cache, lent);
	end();
}
END_TEST

static void *leaked[16];

static __attribute__((noinline)) void leak_here(unsigned i)
{
	leaked[i] = sheaf_cache_alloc(cache, 0);
}

static __attribute__((noinline)) void leak_there(unsigned i)
{
	leaked[i] = sheaf_cache_alloc(cache, 0);
	compiler_barrier();
}

START_TEST(leaks_come_by_their_chain)
{
	struct sheaf *sheaf;
	size_t live;

	begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_LEAKS | (_i ? SHEAF_DEBUG_TRACE : 0)});
	/* One call for both. */
	for (volatile unsigned i = 0; i < 13; i++)
		(i < 10 ? leak_here : leak_there)(i);
	sheaf = sheaf_cache_prefill(cache, 2, 0);
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
	/* The sheaf; then ten of one chain and three of another. */
	ck_assert_uint_eq(seen.leaked, 1 + 13);
	/* A sanitizer puts a call of ours between the user's and the address that is kept. */
	if (_i || (!test_asan() && !test_tsan())) {
		ck_assert_uint_eq(seen.n, 3);
		ck_assert(seen.last.count == 10 || seen.last.count == 3);
	}
	ck_assert_ptr_nonnull(strstr(seen.text, "  allocated by thread"));
	/* Without memory for sorting, each by itself. */
	seen.n = seen.leaked = 0;
	test_fail_nth(0, true);
	ck_assert_int_eq(sheaf_cache_destroy(cache, &live), -EBUSY);
	ck_assert(test_fail_end());
	ck_assert_uint_eq(seen.n, 1 + 13);
	ck_assert_uint_eq(seen.leaked, 1 + 13);
	sheaf_cache_return(cache, sheaf);
	for (unsigned i = 0; i < 13; i++)
		sheaf_cache_free(cache, leaked[i]);
	end();
}
END_TEST

START_TEST(prefilled_sheaves)
{
	struct sheaf *sheaf;
	void *objects[8];

	begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_STRICT});
	sheaf = sheaf_cache_prefill(cache, 3, 0);
	for (unsigned i = 0; i < 3; i++)
		objects[i] = sheaf_cache_alloc_from(cache, sheaf);
	ck_assert_uint_eq(seen.n, 0);
	ck_assert_ptr_null(sheaf_cache_alloc_from(cache, sheaf));
	expect(SHEAF_DEBUG_OVERUSE, NULL);
	/* Somebody else is inside. */
	sheaf->link = sheaf;
	ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, 2, 0), -ENOMEM);
	expect(SHEAF_DEBUG_SHARED_SHEAF, NULL);
	sheaf->link = NULL;
	ck_assert_int_eq(sheaf_cache_refill(cache, &sheaf, 2, 0), 0);
	sheaf->link = sheaf;
	ck_assert_ptr_null(sheaf_cache_alloc_from(cache, sheaf));
	expect(SHEAF_DEBUG_SHARED_SHEAF, NULL);
	sheaf->link = NULL;
	objects[3] = sheaf_cache_alloc_from(cache, sheaf);
	ck_assert_ptr_nonnull(objects[3]);
	sheaf_cache_return(cache, sheaf);
	sheaf_cache_free_bulk(cache, 4, objects);
	end();
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

/* The callback sees objects, may keep them, and free them. */
static struct {
	void *kept;
	unsigned n;
	bool twice;
} ripe;

static void on_ripe(void *arg, struct sheaf *sheaf)
{
	struct debug_object *o;

	(void)arg;
	for (uint32_t i = 0; i < sheaf_size(sheaf); i++) {
		o = object_find(sheaf->objects[i]);
		ripe.n += o && *(unsigned char *)o->object == 0x5a;
	}
	ripe.kept = sheaf_pop(sheaf);
	if (ripe.twice)
		sheaf_cache_free(cache, sheaf->objects[0]);
}

START_TEST(callback_over_ripe_objects)
{
	void *objects[20];

	sheaf_gp_manual_init(&manual, 0);
	ripe.n = 0;
	ripe.twice = _i & 1;
	cache = make((struct sheaf_debug_attr){.flags = EVERYTHING, .sample = _i & 2 ? 4 : 0},
		     (struct sheaf_cache_attr){.ripe = on_ripe, .capacity = 20});
	for (unsigned i = 0; i < 20; i++)
		memset(objects[i] = get(), 0x5a, SIZE);
	for (unsigned i = 0; i < 20; i++)
		sheaf_cache_free_rcu(cache, objects[i]);
	ripen();
	sheaf_cache_shrink(cache);
	ck_assert_uint_eq(ripe.n, 20);
	if (ripe.twice)
		expect(SHEAF_DEBUG_RETIRE_FREE, objects[0]);
	ck_assert_uint_eq(*(unsigned char *)ripe.kept, 0x5a);
	sheaf_cache_free(cache, ripe.kept);
	end();
	ck_assert_uint_eq(seen.n, 0);
}
END_TEST

START_TEST(type_stable_objects_are_left_alone)
{
	struct sheaf_slab_attr slab_attr = {.size = sizeof(slab_attr), .object_size = SIZE};
	struct sheaf_slab *slab;
	unsigned char *object;

	sheaf_gp_manual_init(&manual, 0);
	slab_attr.gp = &manual.gp;
	ck_assert_int_eq(sheaf_slab_create(&slab, &slab_attr), 0);
	cache = make((struct sheaf_debug_attr){.flags = EVERYTHING, .sample = 1},
		     (struct sheaf_cache_attr){.backend = sheaf_slab_backend(slab)});
	object = get();
	memset(object, 0x77, SIZE);
	sheaf_cache_free(cache, object);
	/* In a checker's build as well. */
	for (unsigned k = 0; k < SIZE; k++)
		ck_assert_uint_eq(object[k], 0x77);
	sheaf_cache_free(cache, object);
	expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	sheaf_cache_shrink(cache);
	sheaf_slab_trim(slab);
	sheaf_gp_manual_step(&manual);
	sheaf_slab_trim(slab);
	end();
	ck_assert_uint_eq(seen.n, 0);
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
	tcase_add_loop_test(tc, red_zones_are_exact, 0, 36);
	tcase_add_loop_test(tc, writes_after_free_are_found, 0, 4);
	tcase_add_loop_test(tc, constructed_objects, 0, 2);
	tcase_add_loop_test(tc, quarantine_is_in_order, 0, 2);
	tcase_add_loop_test(tc, sampled_objects, 0, 4);
	tcase_add_test(tc, failures_are_those_of_the_seed);
	tcase_add_test(tc, failures_of_other_calls);
	tcase_add_loop_test(tc, leaks_come_by_their_chain, 0, 2);
	tcase_add_test(tc, prefilled_sheaves);
	tcase_add_loop_test(tc, callback_over_ripe_objects, 0, 4);
	tcase_add_test(tc, type_stable_objects_are_left_alone);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
