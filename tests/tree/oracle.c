/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "oracle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void oracle_fini(struct oracle *oracle)
{
	free(oracle->range);
	*oracle = (struct oracle){.n = 0};
}

size_t oracle_at(const struct oracle *oracle, uint64_t key)
{
	size_t from = 0, to = oracle->n;

	while (from < to) {
		size_t mid = (from + to) / 2;

		if (oracle->range[mid].last < key)
			from = mid + 1;
		else
			to = mid;
	}
	return from;
}

void *oracle_load(const struct oracle *oracle, uint64_t key)
{
	size_t i = oracle_at(oracle, key);

	return i < oracle->n && oracle->range[i].first <= key ? oracle->range[i].entry : NULL;
}

static void insert(struct oracle *oracle, size_t i, uint64_t first, uint64_t last, void *entry)
{
	if (oracle->n == oracle->room) {
		oracle->room = oracle->room ? 2 * oracle->room : 64;
		oracle->range = realloc(oracle->range, oracle->room * sizeof(oracle->range[0]));
		if (!oracle->range)
			abort();
	}
	memmove(&oracle->range[i + 1], &oracle->range[i],
		(oracle->n - i) * sizeof(oracle->range[0]));
	oracle->range[i] = (struct oracle_range){first, last, entry};
	oracle->n++;
}

bool oracle_store(struct oracle *oracle, uint64_t first, uint64_t last, void *entry)
{
	size_t i = oracle_at(oracle, first), end = i;
	struct oracle_range low = {.entry = NULL}, high = {.entry = NULL};

	while (end < oracle->n && oracle->range[end].first <= last)
		end++;
	if (i < end) {
		low = oracle->range[i];
		high = oracle->range[end - 1];
	} else if (!entry) {
		return false;
	}
	if (i < end)
		memmove(&oracle->range[i], &oracle->range[end],
			(oracle->n - end) * sizeof(oracle->range[0]));
	oracle->n -= end - i;
	if (high.entry && high.last > last)
		insert(oracle, i, last + 1, high.last, high.entry);
	if (entry)
		insert(oracle, i, first, last, entry);
	if (low.entry && low.first < first)
		insert(oracle, i, low.first, first - 1, low.entry);
	return true;
}

int oracle_gap(const struct oracle *oracle, const struct sheaf_tree_gap *gap, uint64_t *at)
{
	const __int128 step = gap->align ? gap->align : 1;
	const __int128 size = gap->size, offset = gap->offset;
	int err = -ENOSPC;
	size_t i;

	/* Hole i lies before range i. */
	for (i = 0; i <= oracle->n; i++) {
		__int128 first = i ? (__int128)oracle->range[i - 1].last + 1 : 0;
		__int128 end = i < oracle->n ? oracle->range[i].first : (__int128)UINT64_MAX + 1;
		__int128 place;

		if (first < gap->min)
			first = gap->min;
		if (end > (__int128)gap->max + 1)
			end = (__int128)gap->max + 1;
		if (gap->highest)
			place = end - size < offset ? -1
						    : end - size - (end - size - offset) % step;
		else
			place = first <= offset
					? offset
					: first + step - 1 - (first - offset + step - 1) % step;
		if (place < first || place + size > end)
			continue;
		*at = (uint64_t)place;
		err = 0;
		if (!gap->highest)
			break;
	}
	return err;
}

static size_t rig_alloc_bulk(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	struct rig *rig = ctx;
	size_t got;

	(void)node;
	(void)flags;
	if (rig->forbidden)
		abort();
	for (got = 0; got < n && rig->budget; got++) {
		objects[got] = aligned_alloc(64, SHEAF_TREE_NODE_BYTES);
		if (!objects[got])
			break;
		/* Whoever trusts fresh memory to be zero is to fail. */
		memset(objects[got], 0xa5, SHEAF_TREE_NODE_BYTES);
		rig->budget--;
		rig->out++;
	}
	return got;
}

static void rig_free_bulk(void *ctx, size_t n, void *const *objects)
{
	struct rig *rig = ctx;
	size_t i;

	if (rig->forbidden)
		abort();
	for (i = 0; i < n; i++)
		free(objects[i]);
	rig->out -= n;
}

static const struct sheaf_backend_ops rig_backend = {
	.name = "rig",
	.alloc_bulk = rig_alloc_bulk,
	.free_bulk = rig_free_bulk,
};

void rig_init(struct rig *rig, uint32_t capacity, unsigned flags)
{
	const struct sheaf_cache_attr nodes = {
		.size = sizeof(nodes),
		.object_size = SHEAF_TREE_NODE_BYTES,
		.object_align = 64,
		.capacity = capacity,
		.nodes = 1,
		.gp = &rig->gp.gp,
		.backend = {.ops = &rig_backend, .ctx = rig},
	};
	struct sheaf_tree_attr tree = {.size = sizeof(tree), .gp = &rig->gp.gp, .flags = flags};

	*rig = (struct rig){.budget = SIZE_MAX};
	sheaf_gp_manual_init(&rig->gp, UINT64_MAX - 7);
	ck_assert_int_eq(sheaf_cache_create(&rig->nodes, &nodes), 0);
	tree.nodes = rig->nodes;
	ck_assert_int_eq(sheaf_tree_create(&rig->tree, &tree), 0);
}

void rig_fini(struct rig *rig)
{
	size_t live = 1;
	int err;

	ck_assert_int_eq(sheaf_tree_destroy(rig->tree), 0);
	rig_drain(rig);
	ck_assert_uint_eq(rig->out, 0);
	err = sheaf_cache_destroy(rig->nodes, &live);
	ck_assert_int_eq(err, 0);
	ck_assert_uint_eq(live, 0);
}

void rig_drain(struct rig *rig)
{
	/* Seals; the step is what it waits for. */
	(void)sheaf_cache_barrier(rig->nodes);
	sheaf_gp_manual_step(&rig->gp);
	sheaf_cache_shrink(rig->nodes);
}

const char *rig_wrong(const struct rig *rig, const struct oracle *oracle)
{
	const char *broken = sheaf_tree_check(rig->tree);
	struct sheaf_tree_cursor cursor;
	struct sheaf_tree_stats stats;
	size_t i;

	if (broken)
		return broken;
	sheaf_tree_stats(rig->tree, &stats);
	if (stats.entries != oracle->n)
		return "the number of ranges differs";
	if (stats.nodes_made - stats.nodes_retired != stats.nodes ||
	    stats.objects_made - stats.objects_retired != stats.objects)
		return "what was made and retired does not add up";
	sheaf_tree_cursor_init(&cursor, rig->tree);
	for (i = 0; i < oracle->n; i++) {
		const struct oracle_range *range = &oracle->range[i];

		if (sheaf_tree_next_rcu(&cursor) != range->entry || cursor.entry != range->entry ||
		    cursor.first != range->first || cursor.last != range->last)
			return "a range differs";
	}
	if (sheaf_tree_next_rcu(&cursor) || sheaf_tree_next_rcu(&cursor))
		return "there is something past the end";
	for (; i; i--) {
		const struct oracle_range *range = &oracle->range[i - 1];

		if (sheaf_tree_prev_rcu(&cursor) != range->entry || cursor.first != range->first ||
		    cursor.last != range->last)
			return "a range differs, backwards";
	}
	return sheaf_tree_prev_rcu(&cursor) ? "there is something before the start" : NULL;
}

void rig_compare(const struct rig *rig, const struct oracle *oracle)
{
	const char *wrong = rig_wrong(rig, oracle);

	if (wrong) {
		sheaf_tree_dump(rig->tree, SHEAF_TREE_TEXT, stderr);
		ck_abort_msg("%s", wrong);
	}
}
