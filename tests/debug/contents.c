/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of what debug mode does to the memory of objects: a write before, behind, or into a free object is reported
 * once, with its exact bytes. Objects keep their alignment with red zones, and what a constructor wrote. The
 * quarantine gives objects back in the order in which they came. Sampled objects end at their page, and
 * cannot be accessed once they are free; with SHEAF_NOWAIT none is sampled. A callback over ripe objects sees them as they
 * were, and is not who retired them; objects of a type-stable backend are left alone.
 */
#define _GNU_SOURCE
#include "watched.h"

#include <errno.h>
#include <sheaf/slab.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Each byte before and behind the object, up to the next one; and none in it. */
START_TEST(red_zones_are_exact)
{
	static const size_t sizes[] = {1, 7, 8, 13, 16, 48, 100, 4096, 70000};
	static const size_t aligns[] = {0, 8, 64, 4096};
	size_t size = sizes[_i / 4], align = aligns[_i % 4];

	sheaf_gp_manual_init(&watched_manual, 0);
	watched =
		watched_make((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_REDZONE},
			     (struct sheaf_cache_attr){.object_size = size, .object_align = align});
	for (int behind = 0; behind < 2; behind++)
		for (ptrdiff_t away = 0; away < 16; away++) {
			unsigned char *object = watched_get(), was;
			ptrdiff_t at = behind ? (ptrdiff_t)size + away : -1 - away;

			ck_assert_uint_eq((uintptr_t)object % (align       ? align
							       : size < 16 ? 8
									   : 16),
					  0);
			memset(object, 0xee, size);
			object_open(watched->watch->debug, object_find(object));
			was = object[at];
			object[at] ^= 0x40;
			sheaf_cache_free(watched, object);
			watched_expect(behind ? SHEAF_DEBUG_WRITE_BEHIND : SHEAF_DEBUG_WRITE_BEFORE,
				       object);
			ck_assert_int_eq(watched_seen.last.offset, at);
			ck_assert_uint_eq(watched_seen.last.bytes, 1);
			/* Mended. */
			object = watched_get();
			object_open(watched->watch->debug, object_find(object));
			ck_assert_uint_eq(object[at], was);
			object_close(watched->watch->debug, object_find(object));
			ck_assert_uint_eq(watched_seen.n, 0);
			sheaf_cache_free(watched, object);
		}
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

/* Any byte of a free object, found at the next allocation, or when it goes to the backend. */
START_TEST(writes_after_free_are_found)
{
	bool retired = _i & 1, at_end = _i & 2;

	watched_begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_POISON});
	for (size_t at = 0; at < WATCHED_SIZE; at++) {
		unsigned char *object = watched_get(), *last = retired ? watched_get() : NULL;
		size_t n = at + 3 <= WATCHED_SIZE ? 3 : 1;

		/* To a checker it has no contents. */
		object_open(watched->watch->debug, object_find(object));
		ck_assert_uint_eq(object[at], BYTE_FRESH);
		memset(object, BYTE_FREE, WATCHED_SIZE);
		if (retired) {
			sheaf_cache_free_rcu(watched, object);
			sheaf_cache_free_rcu(watched, last);
			watched_ripen();
			/* Until their sheaf is taken they are as readers saw them. */
			while (watched_get() != last)
				;
		} else {
			sheaf_cache_free(watched, object);
		}
		object_open(watched->watch->debug, object_find(object));
		object[at] = object[at + n - 1] = 1;
		if (at_end)
			sheaf_cache_shrink(watched);
		else
			while (sheaf_cache_alloc(watched, 0) != object)
				;
		watched_expect(SHEAF_DEBUG_WRITE_AFTER_FREE, object);
		ck_assert_int_eq(watched_seen.last.offset, (ptrdiff_t)at);
		ck_assert_uint_eq(watched_seen.last.bytes, n);
		ck_assert_uint_ge(watched_seen.last.freed.n, 1);
	}
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

/* Of a constructor: contents stay, and a change of them is found by its sum. */
static void construct(void *arg, size_t n, void *const *objects)
{
	for (size_t i = 0; i < n; i++)
		memset(objects[i], *(int *)arg, WATCHED_SIZE);
}

START_TEST(constructed_objects)
{
	int byte = 0x33;
	unsigned char *object;

	sheaf_gp_manual_init(&watched_manual, 0);
	watched =
		watched_make((struct sheaf_debug_attr){.flags = WATCHED_ALL, .sample = _i ? 2 : 0},
			     (struct sheaf_cache_attr){.ctor = construct, .ctor_arg = &byte});
	for (unsigned round = 0; round < 100; round++) {
		object = watched_get();
		for (unsigned k = 0; k < WATCHED_SIZE; k++)
			ck_assert_uint_eq(object[k], byte);
		if (round % 2)
			sheaf_cache_free(watched, object);
		else
			sheaf_cache_free_rcu(watched, object);
	}
	watched_ripen();
	if (!_i) {
		object = watched_get();
		sheaf_cache_free(watched, object);
		object_open(watched->watch->debug, object_find(object));
		object[7]++;
		ck_assert_ptr_eq(watched_get(), object);
		watched_expect(SHEAF_DEBUG_WRITE_AFTER_FREE, object);
		object[7]--;
		sheaf_cache_free(watched, object);
	}
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

START_TEST(quarantine_is_in_order)
{
	void *objects[30];

	watched_begin((struct sheaf_debug_attr){.quarantine = 10});
	for (unsigned i = 0; i < 30; i++)
		objects[i] = watched_get();
	sheaf_cache_shrink(watched);
	for (unsigned i = 0; i < 30; i++) {
		if (_i)
			sheaf_cache_free_rcu(watched, objects[i]);
		else
			sheaf_cache_free(watched, objects[i]);
		/* What comes out is what went in ten frees ago. */
		if (!_i && i >= 10)
			ck_assert_ptr_eq(sheaf_cache_alloc_nowait(watched), objects[i - 10]);
	}
	if (_i) {
		unsigned again = 0;

		watched_ripen();
		for (unsigned i = 0; i < 20; i++) {
			void *object = watched_get();

			for (unsigned k = 0; k < 20; k++)
				again += object == objects[k];
		}
		ck_assert_uint_eq(again, 20);
	}
	/* All are had before the backend is asked for more. */
	ck_assert_uint_ge(sheaf_cache_shrink(watched), 10);
	ck_assert_int_eq(sheaf_cache_destroy(watched, NULL), -EBUSY);
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
		/* Not by exit(): a checker would have something to say. */
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return !WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL;
}

START_TEST(sampled_objects)
{
	size_t size = (size_t[]){48, 13, 4096, 5000}[_i];
	char *objects[6], *again[2], *first, *second;
	unsigned guarded = 0, with[2] = {0, 0};

	sheaf_gp_manual_init(&watched_manual, 0);
	watched = watched_make(
		(struct sheaf_debug_attr){.flags = WATCHED_ALL, .sample = 2, .guards = 2},
		(struct sheaf_cache_attr){.object_size = size, .object_align = 16});
	for (unsigned i = 0; i < 6; i++) {
		objects[i] = watched_get();
		memset(objects[i], 7, size);
		ck_assert_uint_eq((uintptr_t)objects[i] % 16, 0);
	}
	/* One of the first two, one of the next two, then there are no guards any more. */
	for (unsigned i = 0; i < 6; i++) {
		uintptr_t behind = ((uintptr_t)objects[i] + size + 15) & ~(uintptr_t)15;

		if (object_find(objects[i])->place) {
			ck_assert_uint_eq(i / 2, guarded);
			ck_assert_uint_lt(guarded, 2);
			with[guarded++] = i;
			ck_assert_uint_eq(behind % 4096, 0);
			ck_assert(faults((char *)behind));
			ck_assert(!faults(objects[i]));
		}
	}
	ck_assert_uint_eq(guarded, 2);
	first = objects[with[0]];
	second = objects[with[1]];
	if (size % 16) {
		object_open(watched->watch->debug, object_find(first));
		first[size] = 1;
		sheaf_cache_free(watched, first);
		watched_expect(SHEAF_DEBUG_WRITE_BEHIND, first);
	} else {
		sheaf_cache_free(watched, first);
	}
	ck_assert(faults(first));
	sheaf_cache_free(watched, first);
	watched_expect(SHEAF_DEBUG_DOUBLE_FREE, first);
	/* A retired one can be read until it is ripe. */
	sheaf_cache_free_rcu(watched, second);
	ck_assert(!faults(second));
	watched_ripen();
	/* The seventh allocation is sampled or the eighth; of two guards the first one is next. */
	for (unsigned i = 0; i < 2; i++)
		again[i] = watched_get();
	ck_assert(again[0] == first || again[1] == first);
	ck_assert_int_eq(sheaf_cache_barrier(watched), 0);
	sheaf_cache_shrink(watched);
	ck_assert_int_eq(object_state(object_find(second)), OBJECT_FREE);
	ck_assert(faults(second));
	for (unsigned i = 0; i < 6; i++)
		if (i != with[0] && i != with[1])
			sheaf_cache_free(watched, objects[i]);
	for (unsigned i = 0; i < 2; i++)
		sheaf_cache_free(watched, again[i]);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

/* Who allocates two kinds of objects in turn sees some of both sampled, as many as asked for; the same ones with the
 * same seed, others with another. */
START_TEST(samples_are_in_step_with_nobody)
{
	enum { ALLOCATIONS = 128 };
	static bool sampled[3][ALLOCATIONS];
	const unsigned among = 1u << _i;

	for (unsigned run = 0; run < 3; run++) {
		void *objects[ALLOCATIONS];
		unsigned of[2] = {0, 0};

		sheaf_gp_manual_init(&watched_manual, 0);
		watched = watched_make((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_OWNER,
								 .sample = among,
								 .guards = ALLOCATIONS,
								 .seed = run == 2},
				       (struct sheaf_cache_attr){0});
		for (unsigned i = 0; i < ALLOCATIONS; i++) {
			objects[i] = watched_get();
			sampled[run][i] = object_find(objects[i])->place;
			of[i % 2] += sampled[run][i];
		}
		ck_assert_uint_eq(of[0] + of[1], ALLOCATIONS / among);
		ck_assert_uint_gt(of[0], 0);
		ck_assert_uint_gt(of[1], 0);
		for (unsigned i = 0; i < ALLOCATIONS; i++)
			sheaf_cache_free(watched, objects[i]);
		watched_end();
	}
	ck_assert_int_eq(memcmp(sampled[0], sampled[1], sizeof(sampled[0])), 0);
	ck_assert(among == 1 || memcmp(sampled[0], sampled[2], sizeof(sampled[0])) != 0);
}
END_TEST

/* One object, by each call with these flags in turn. */
static void *get_by(int how, unsigned flags)
{
	void *object = NULL;

	switch (how) {
	case 0:
		return sheaf_cache_alloc(watched, flags);
	case 1:
		sheaf_cache_alloc_bulk(watched, flags, 1, &object);
		return object;
	case 2:
		return sheaf_cache_alloc_node(watched, flags, 0);
	default:
		return sheaf_cache_alloc_node(watched, flags, 1);
	}
}

/* With SHEAF_NOWAIT no object has pages made for it, and no frame of a report is looked up. */
START_TEST(nowait_calls_ask_nobody)
{
	unsigned char *object;

	sheaf_gp_manual_init(&watched_manual, 0);
	watched = watched_make(
		(struct sheaf_debug_attr){.flags = SHEAF_DEBUG_POISON, .sample = 1, .guards = 64},
		(struct sheaf_cache_attr){.nodes = 2, .current_node = on_first_node});
	for (unsigned i = 0; i < 2; i++) {
		unsigned flags = i ? SHEAF_NOWAIT : 0;

		object = get_by(_i, 0);
		ck_assert_ptr_nonnull(object_find(object)->place);
		sheaf_cache_free(watched, object);
		object = get_by(_i, flags);
		ck_assert_ptr_nonnull(object);
		ck_assert_int_eq(object_find(object)->place != NULL, !flags);
		sheaf_cache_free(watched, object);
	}
	sheaf_cache_shrink(watched);
	ck_assert_ptr_null(get_by(_i, SHEAF_NOWAIT));
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

/* Where the report is made in a call that may ask the dynamic linker, it has names. */
START_TEST(nowait_reports_have_no_names)
{
	unsigned flags = _i & 1 ? SHEAF_NOWAIT : 0;
	int how = _i / 2;
	unsigned char *object;

	sheaf_gp_manual_init(&watched_manual, 0);
	watched =
		watched_make((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_POISON},
			     (struct sheaf_cache_attr){.nodes = 2, .current_node = on_first_node});
	object = get_by(how, 0);
	sheaf_cache_free(watched, object);
	object_open(watched->watch->debug, object_find(object));
	object[3] ^= 1;
	object = get_by(how, flags);
	watched_expect(SHEAF_DEBUG_WRITE_AFTER_FREE, object);
	ck_assert_ptr_nonnull(strstr(watched_seen.text, "found by thread"));
	ck_assert_int_eq(strstr(watched_seen.text, "+0x") != NULL, !flags);
	sheaf_cache_free(watched, object);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
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
		sheaf_cache_free(watched, sheaf->objects[0]);
}

START_TEST(callback_over_ripe_objects)
{
	void *objects[20];

	sheaf_gp_manual_init(&watched_manual, 0);
	ripe.n = 0;
	ripe.twice = _i & 1;
	watched = watched_make(
		(struct sheaf_debug_attr){.flags = WATCHED_ALL, .sample = _i & 2 ? 4 : 0},
		(struct sheaf_cache_attr){.ripe = on_ripe, .capacity = 20});
	for (unsigned i = 0; i < 20; i++)
		memset(objects[i] = watched_get(), 0x5a, WATCHED_SIZE);
	for (unsigned i = 0; i < 20; i++)
		sheaf_cache_free_rcu(watched, objects[i]);
	watched_ripen();
	sheaf_cache_shrink(watched);
	ck_assert_uint_eq(ripe.n, 20);
	if (ripe.twice) {
		watched_expect(SHEAF_DEBUG_RETIRE_FREE, objects[0]);
		ck_assert_ptr_eq(watched_seen.last.here.frames[0], (char *)on_ripe + 1);
	}
	ck_assert_uint_eq(*(unsigned char *)ripe.kept, 0x5a);
	/* Who retired it is known, not who looked at it. */
	sheaf_cache_free(watched, objects[3]);
	watched_expect(SHEAF_DEBUG_DOUBLE_FREE, objects[3]);
	ck_assert_uint_ge(watched_seen.last.freed.n, 1);
	ck_assert(watched_seen.last.freed.frames[0] != (void *)on_ripe);
	sheaf_cache_free(watched, ripe.kept);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

START_TEST(type_stable_objects_are_left_alone)
{
	struct sheaf_slab_attr slab_attr = {.size = sizeof(slab_attr), .object_size = WATCHED_SIZE};
	struct sheaf_slab *slab;
	unsigned char *object;

	sheaf_gp_manual_init(&watched_manual, 0);
	slab_attr.gp = &watched_manual.gp;
	ck_assert_int_eq(sheaf_slab_create(&slab, &slab_attr), 0);
	watched = watched_make((struct sheaf_debug_attr){.flags = WATCHED_ALL, .sample = 1},
			       (struct sheaf_cache_attr){.backend = sheaf_slab_backend(slab)});
	object = watched_get();
	memset(object, 0x77, WATCHED_SIZE);
	sheaf_cache_free(watched, object);
	/* In a checker's build as well. */
	for (unsigned k = 0; k < WATCHED_SIZE; k++)
		ck_assert_uint_eq(object[k], 0x77);
	sheaf_cache_free(watched, object);
	watched_expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	sheaf_cache_shrink(watched);
	sheaf_slab_trim(slab);
	sheaf_gp_manual_step(&watched_manual);
	sheaf_slab_trim(slab);
	watched_end();
	ck_assert_uint_eq(watched_seen.n, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("debug");
	TCase *tc = tcase_create("contents");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, red_zones_are_exact, 0, 36);
	tcase_add_loop_test(tc, writes_after_free_are_found, 0, 4);
	tcase_add_loop_test(tc, constructed_objects, 0, 2);
	tcase_add_loop_test(tc, quarantine_is_in_order, 0, 2);
	tcase_add_loop_test(tc, sampled_objects, 0, 4);
	tcase_add_loop_test(tc, samples_are_in_step_with_nobody, 0, 4);
	tcase_add_loop_test(tc, nowait_calls_ask_nobody, 0, 4);
	tcase_add_loop_test(tc, nowait_reports_have_no_names, 0, 6);
	tcase_add_loop_test(tc, callback_over_ripe_objects, 0, 4);
	tcase_add_test(tc, type_stable_objects_are_left_alone);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
