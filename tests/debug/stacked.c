/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of debug mode of caches over caches: one whose backend takes objects of another cache, as they are or
 * cut into pieces, the first of which has the same address. What is right is silent, sampled or not, and ends
 * with nothing out; what is wrong is told by the cache that was called, and an address is told of by the
 * innermost object that it is in. Of a cache that has ended the name alone stays, also
 * where it ends while it is told.
 */
#include "watched.h"

#include <stdio.h>
#include <string.h>

#define PIECES 4
#define MANY 40
#define CHUNKS 2048

/* What the upper cache has from the lower one: chunks, the upper's objects when all pieces are in. */
static struct {
	struct sheaf_cache *lower;
	size_t pieces;
	struct chunk {
		char *begin;
		bool out[PIECES];
	} chunks[CHUNKS];
} stack;

static struct chunk *new_chunk(unsigned flags)
{
	struct chunk *chunk = stack.chunks;

	while (chunk->begin)
		ck_assert(++chunk < stack.chunks + CHUNKS);
	chunk->begin = sheaf_cache_alloc(stack.lower, flags);
	return chunk->begin ? chunk : NULL;
}

static bool take_piece(struct chunk *chunk, void **object)
{
	for (size_t i = 0; i < stack.pieces; i++)
		if (chunk->begin && !chunk->out[i]) {
			chunk->out[i] = true;
			*object = chunk->begin + i * WATCHED_SIZE;
			return true;
		}
	return false;
}

static size_t take(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	size_t got = 0;

	(void)ctx;
	(void)node;
	for (size_t i = 0; i < CHUNKS && got < n; i++)
		while (got < n && take_piece(&stack.chunks[i], &objects[got]))
			got++;
	while (got < n) {
		struct chunk *chunk = new_chunk(flags);

		if (!chunk)
			break;
		while (got < n && take_piece(chunk, &objects[got]))
			got++;
	}
	return got;
}

static void give_piece(char *object)
{
	static const bool none[PIECES];

	for (struct chunk *chunk = stack.chunks; chunk < stack.chunks + CHUNKS; chunk++)
		if (chunk->begin && object >= chunk->begin &&
		    object < chunk->begin + stack.pieces * WATCHED_SIZE) {
			chunk->out[(object - chunk->begin) / WATCHED_SIZE] = false;
			if (memcmp(chunk->out, none, sizeof(none)))
				return;
			sheaf_cache_free(stack.lower, chunk->begin);
			chunk->begin = NULL;
			return;
		}
	ck_abort_msg("%p is of no chunk", (void *)object);
}

static void give(void *ctx, size_t n, void *const *objects)
{
	(void)ctx;
	for (size_t i = 0; i < n; i++)
		give_piece(objects[i]);
}

static const struct sheaf_backend_ops ops = {
	.name = "stacked", .alloc_bulk = take, .free_bulk = give};

/* The lowest two bits: in pieces; sampled. */
static void begin_stack(int how)
{
	struct sheaf_debug_attr debug = {
		.flags = WATCHED_ALL, .sample = how & 2 ? 2 : 0, .guards = 8};

	memset(&stack, 0, sizeof(stack));
	stack.pieces = how & 1 ? PIECES : 1;
	sheaf_gp_manual_init(&watched_manual, 0);
	stack.lower = watched_make(
		debug, (struct sheaf_cache_attr){.name = "lower",
						 .object_size = stack.pieces * WATCHED_SIZE});
	watched = watched_make(debug, (struct sheaf_cache_attr){.backend = {.ops = &ops}});
}

static void end_stack(void)
{
	watched_end();
	ck_assert_int_eq(sheaf_cache_destroy(stack.lower, NULL), 0);
	ck_assert_uint_eq(watched_seen.n, 0);
}

START_TEST(right_use_is_silent)
{
	unsigned char *objects[MANY];

	begin_stack(_i);
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < MANY; i++)
			memset(objects[i] = watched_get(), (int)i, WATCHED_SIZE);
		for (unsigned i = 0; i < MANY; i++) {
			for (unsigned k = 0; k < WATCHED_SIZE; k++)
				ck_assert_uint_eq(objects[i][k], i);
			if (i % 3)
				sheaf_cache_free(watched, objects[i]);
			else
				sheaf_cache_free_rcu(watched, objects[i]);
		}
		watched_ripen();
		if (round % 2)
			sheaf_cache_shrink(watched);
		if (round % 4 == 1)
			sheaf_cache_shrink(stack.lower);
		ck_assert_msg(watched_seen.n == 0, "%u reports, last %d", watched_seen.n,
			      (int)watched_seen.last.kind);
	}
	end_stack();
}
END_TEST

/* An object of both. */
static char *first_piece(void)
{
	char *objects[PIECES], *first = NULL;

	/* The last one that came is the first one that is handed out. */
	for (unsigned i = 0; i < stack.pieces; i++) {
		objects[i] = watched_get();
		for (struct chunk *chunk = stack.chunks; chunk < stack.chunks + CHUNKS; chunk++)
			first = chunk->begin == objects[i] ? objects[i] : first;
	}
	for (unsigned i = 0; i < stack.pieces; i++)
		if (objects[i] != first)
			sheaf_cache_free(watched, objects[i]);
	ck_assert_ptr_nonnull(first);
	return first;
}

/* Each of the two says what it knows, whatever the other one's object of this address is. */
START_TEST(wrong_use_is_told)
{
	struct sheaf_cache *other;
	char *object;

	begin_stack(_i);
	other = watched_make((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_OWNER},
			     (struct sheaf_cache_attr){.name = "other"});
	object = first_piece();
	/* It is the lower one's as well, but that does not have it. */
	sheaf_cache_free(stack.lower, object);
	ck_assert_int_eq(watched_seen.last.kind, SHEAF_DEBUG_WRONG_CACHE);
	ck_assert_str_eq(watched_seen.owner, "watched");
	watched_seen.n = 0;
	sheaf_cache_free_rcu(stack.lower, object);
	ck_assert_int_eq(watched_seen.last.kind, SHEAF_DEBUG_WRONG_CACHE);
	sheaf_cache_free(other, object);
	ck_assert_int_eq(watched_seen.last.kind, SHEAF_DEBUG_WRONG_CACHE);
	ck_assert_str_eq(watched_seen.owner, "watched");
	sheaf_cache_free(other, object + 3);
	ck_assert_int_eq(watched_seen.last.kind, SHEAF_DEBUG_NO_OBJECT);
	ck_assert_int_eq(watched_seen.last.offset, 3);
	ck_assert_str_eq(watched_seen.owner, "watched");
	watched_seen.n = 0;
	sheaf_cache_free(watched, object);
	sheaf_cache_free(watched, object);
	watched_expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	sheaf_cache_free_rcu(watched, object);
	watched_expect(SHEAF_DEBUG_RETIRE_FREE, object);
	/* The lower one's, and free; then in use. */
	sheaf_cache_shrink(watched);
	sheaf_cache_free(watched, object);
	watched_expect(SHEAF_DEBUG_DOUBLE_FREE, object);
	while (sheaf_cache_alloc(stack.lower, 0) != object)
		;
	sheaf_cache_free(watched, object);
	watched_expect(SHEAF_DEBUG_WRONG_CACHE, object);
	ck_assert_str_eq(watched_seen.owner, "lower");
	sheaf_cache_free(stack.lower, object);
	ck_assert_uint_eq(watched_seen.n, 0);
	watched_end();
	ck_assert_int_eq(sheaf_cache_destroy(other, NULL), 0);
}
END_TEST

/* Of whoever had it once nothing is left. */
START_TEST(names_outlive_their_caches)
{
	const struct debug_owner *owner;
	void *object;

	watched_begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_OWNER});
	owner = watched->watch->debug->owner;
	object = watched_get();
	sheaf_cache_free(watched, object);
	watched_end();
	ck_assert_str_eq(owner->name, "watched");
	ck_assert_int_eq(object_state(object_find(object)), OBJECT_GONE);
	ck_assert_ptr_null(object_owner(object_find(object)));
	/* Used again for the same name, and for two at a time not. */
	watched_begin((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_OWNER});
	ck_assert_ptr_eq(watched->watch->debug->owner, owner);
	stack.lower = watched_make((struct sheaf_debug_attr){.flags = SHEAF_DEBUG_OWNER},
				   (struct sheaf_cache_attr){0});
	ck_assert_ptr_ne(stack.lower->watch->debug->owner, owner);
	sheaf_cache_free(watched, object);
	watched_expect(SHEAF_DEBUG_NO_OBJECT, object);
	ck_assert_str_eq(watched_seen.owner, "");
	end_stack();
}
END_TEST

/* One thread makes caches and ends them, another one is told of their objects. */
static struct {
	struct sheaf_cache *called;
	void *object;
	bool over;
	unsigned told;
	unsigned wrong;
} names;

static void on_name(void *arg, const struct sheaf_debug_report *report)
{
	(void)arg;
	fetch_add_relaxed(&names.told, report->owner != NULL);
	names.wrong += report->owner && strncmp(report->owner, "ends ", 5) != 0;
}

static void *make_and_end(void)
{
	char name[24];

	for (unsigned round = 0; round < test_rounds(2000); round++) {
		const struct sheaf_debug_attr debug = {.size = sizeof(debug),
						       .flags = SHEAF_DEBUG_OWNER};
		const struct sheaf_cache_attr attr = {.size = sizeof(attr),
						      .object_size = WATCHED_SIZE,
						      .name = name,
						      .gp = &watched_manual.gp,
						      .debug = &debug};
		struct sheaf_cache *cache;
		void *object;

		snprintf(name, sizeof(name), "ends %u", round);
		if (sheaf_cache_create(&cache, &attr))
			break;
		object = sheaf_cache_alloc(cache, 0);
		store_relaxed(&names.object, object);
		/* Until the other one is there. */
		while (!load_relaxed(&names.told))
			test_pause();
		sheaf_cache_free(cache, object);
		if (sheaf_cache_destroy(cache, NULL))
			break;
	}
	store_relaxed(&names.over, true);
	return NULL;
}

static void *ask(void)
{
	while (!load_relaxed(&names.over))
		sheaf_cache_free(names.called, load_relaxed(&names.object));
	return NULL;
}

static void *end_or_ask(void *arg)
{
	return *(int *)arg ? ask() : make_and_end();
}

START_TEST(names_are_told_while_caches_end)
{
	const struct sheaf_debug_attr debug = {
		.size = sizeof(debug), .flags = SHEAF_DEBUG_OWNER, .report = on_name};
	const struct sheaf_cache_attr attr = {.size = sizeof(attr),
					      .object_size = WATCHED_SIZE,
					      .gp = &watched_manual.gp,
					      .debug = &debug};
	int which[2] = {0, 1};

	sheaf_gp_manual_init(&watched_manual, 0);
	ck_assert_int_eq(sheaf_cache_create(&names.called, &attr), 0);
	test_threads(2, end_or_ask, which, sizeof(*which));
	ck_assert_int_eq(sheaf_cache_destroy(names.called, NULL), 0);
	ck_assert_uint_eq(names.wrong, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("debug");
	TCase *tc = tcase_create("stacked");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, right_use_is_silent, 0, 4);
	tcase_add_loop_test(tc, wrong_use_is_told, 0, 2);
	tcase_add_test(tc, names_outlive_their_caches);
	tcase_add_test(tc, names_are_told_while_caches_end);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
