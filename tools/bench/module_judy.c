/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * JudyL behind a rwlock. Points: key to value. Ranges: last key to a record with the first
 * key; it has no gap index, so a place is looked for from the top downwards.
 */
#include "ops.h"
#include "tree_locked.h"

#include <Judy.h>
#include <stdio.h>
#include <stdlib.h>

struct judy {
	struct tree_lock lock;
	Pvoid_t array;
};

struct record {
	uint64_t first;
	void *value;
};

static void *judy_setup(const struct bench_env *env)
{
	struct judy *judy = aligned_alloc(64, sizeof(*judy));

	(void)env;
	if (!judy)
		return NULL;
	pthread_rwlock_init(&judy->lock.lock, NULL);
	judy->array = NULL;
	return judy;
}

static void judy_clear(void *ctx)
{
	JudyLFreeArray(&((struct judy *)ctx)->array, PJE0);
}

static void judy_teardown(void *ctx)
{
	judy_clear(ctx);
	free(ctx);
}

static void *judy_load(void *ctx, uint64_t key)
{
	struct judy *judy = ctx;
	PPvoid_t place;
	void *value;

	tree_read_lock(&judy->lock);
	place = JudyLGet(judy->array, key, PJE0);
	value = place ? *place : NULL;
	tree_unlock(&judy->lock);
	return value;
}

static bool judy_store(void *ctx, uint64_t first, uint64_t last, void *value)
{
	struct judy *judy = ctx;
	PPvoid_t place;

	(void)last;
	tree_write_lock(&judy->lock);
	place = JudyLIns(&judy->array, first, PJE0);
	if (place && place != PPJERR)
		*place = value;
	tree_unlock(&judy->lock);
	return place && place != PPJERR;
}

static bool judy_erase(void *ctx, uint64_t key)
{
	struct judy *judy = ctx;
	int n;

	tree_write_lock(&judy->lock);
	n = JudyLDel(&judy->array, key, PJE0);
	tree_unlock(&judy->lock);
	return n == 1;
}

static uint64_t judy_scan(void *ctx, uint64_t from, uint64_t n, uint64_t *sum)
{
	struct judy *judy = ctx;
	Word_t key = from;
	uint64_t seen = 0;
	PPvoid_t place;

	tree_read_lock(&judy->lock);
	for (place = JudyLFirst(judy->array, &key, PJE0); place && seen < n;
	     place = JudyLNext(judy->array, &key, PJE0)) {
		*sum += (uintptr_t)*place;
		seen++;
	}
	tree_unlock(&judy->lock);
	return seen;
}

static const struct tree_ops judy_points = {
	.setup = judy_setup,
	.teardown = judy_teardown,
	.load = judy_load,
	.store = judy_store,
	.erase = judy_erase,
	.scan = judy_scan,
	.clear = judy_clear,
};

/* ---- Ranges ---- */

static void ranges_clear(void *ctx)
{
	struct judy *judy = ctx;
	Word_t key = 0;
	PPvoid_t place;

	for (place = JudyLFirst(judy->array, &key, PJE0); place;
	     place = JudyLNext(judy->array, &key, PJE0))
		free(*place);
	judy_clear(ctx);
}

static void ranges_teardown(void *ctx)
{
	ranges_clear(ctx);
	free(ctx);
}

static void *ranges_load(void *ctx, uint64_t key)
{
	struct judy *judy = ctx;
	Word_t last = key;
	void *value = NULL;
	PPvoid_t place;

	tree_read_lock(&judy->lock);
	place = JudyLFirst(judy->array, &last, PJE0);
	if (place && ((struct record *)*place)->first <= key)
		value = ((struct record *)*place)->value;
	tree_unlock(&judy->lock);
	return value;
}

static bool ranges_insert(struct judy *judy, uint64_t first, uint64_t last, struct record *record)
{
	PPvoid_t place = JudyLIns(&judy->array, last, PJE0);

	if (!place || place == PPJERR)
		return false;
	record->first = first;
	*place = record;
	return true;
}

static bool ranges_store(void *ctx, uint64_t first, uint64_t last, void *value)
{
	struct record *record = malloc(sizeof(*record));
	struct judy *judy = ctx;
	bool stored;

	if (!record)
		return false;
	record->value = value;
	tree_write_lock(&judy->lock);
	stored = ranges_insert(judy, first, last, record);
	tree_unlock(&judy->lock);
	return stored;
}

static bool ranges_erase(void *ctx, uint64_t key)
{
	struct judy *judy = ctx;
	struct record *record = NULL;
	Word_t last = key;
	PPvoid_t place;

	tree_write_lock(&judy->lock);
	place = JudyLFirst(judy->array, &last, PJE0);
	if (place && ((struct record *)*place)->first <= key) {
		record = *place;
		JudyLDel(&judy->array, last, PJE0);
	}
	tree_unlock(&judy->lock);
	if (!record)
		return false;
	free(record);
	return true;
}

/* The end of the highest hole of that size below top; 0 if there is none. */
static uint64_t ranges_hole(const struct judy *judy, uint64_t top, uint64_t size)
{
	Word_t last = top;
	PPvoid_t place;
	uint64_t end = top;

	for (place = JudyLLast(judy->array, &last, PJE0); place;
	     place = JudyLPrev(judy->array, &last, PJE0)) {
		if (end - last - 1 >= size)
			return end;
		end = ((struct record *)*place)->first;
	}
	return end > size ? end : 0;
}

static uint64_t ranges_map(void *ctx, uint64_t top, uint64_t size, void *value)
{
	struct record *record = malloc(sizeof(*record));
	struct judy *judy = ctx;
	uint64_t end;

	if (!record)
		return 0;
	record->value = value;
	tree_write_lock(&judy->lock);
	end = ranges_hole(judy, top, size);
	if (!end || !ranges_insert(judy, end - size, end - 1, record))
		end = size;
	tree_unlock(&judy->lock);
	return end - size;
}

static const struct tree_ops judy_ranges = {
	.setup = judy_setup,
	.teardown = ranges_teardown,
	.load = ranges_load,
	.store = ranges_store,
	.erase = ranges_erase,
	.map = ranges_map,
	.clear = ranges_clear,
};

extern const struct bench_peer bench_peer;
const struct bench_peer bench_peer = {
	.points = &judy_points,
	.ranges = &judy_ranges,
};
