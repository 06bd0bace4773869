/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The pattern of an address space: nine lookups, then one change, which is by turns to
 * unmap a random range and to map a new one in the highest place where it fits. Keys are
 * pages. Each thread changes ranges of its own, so it knows what it must find.
 */
#include "pattern.h"

#define TOP (UINT64_C(1) << 35)
#define PAGES_MAX 64
#define LOOKUPS 9

struct range {
	uint64_t first;
	uint64_t size;
	void *value;
};

/* One thread's ranges. The last place is free while one is unmapped. */
struct ranges {
	struct range *range;
	uint64_t n;
};

/* Any value will do that no other range has. */
static void *value_new(struct worker *w)
{
	return (void *)(uintptr_t)(next_random(&w->random) | 1);
}

/* Packed from the top downwards, with a hole of some pages at each tenth place. */
static bool prepare_vma(struct rig *rig)
{
	const uint64_t threads = rig->env.param[PARAM_THREADS];
	const uint64_t n = rig->env.param[PARAM_RANGES] / threads;
	struct ranges *all = calloc(threads, sizeof(*all));
	uint64_t random = 0x5eaf, at = TOP, i, t, before = resident_kib();

	if (!all)
		out_of_memory();
	rig->shared = all;
	for (t = 0; t < threads; t++) {
		all[t].range = calloc(n, sizeof(struct range));
		if (!all[t].range)
			out_of_memory();
		all[t].n = n;
		memset(all[t].range, 0xff, n * sizeof(struct range));
	}
	before = resident_kib();
	if (rig->tree->enter)
		rig->tree->enter(rig->ctx);
	for (i = 0; i < n * threads; i++) {
		struct range *range = &all[i % threads].range[i / threads];

		range->size = 1 + random_below(&random, PAGES_MAX);
		at -= range->size;
		if (i % 10 == 0)
			at -= 1 + random_below(&random, 16);
		range->first = at;
		range->value = (void *)(uintptr_t)(at << 1 | 1);
		if (!rig->tree->store(rig->ctx, at, at + range->size - 1, range->value))
			out_of_memory();
	}
	if (rig->tree->leave)
		rig->tree->leave(rig->ctx);
	tree_bytes_entry = (double)(resident_kib() - before) * 1024.0 / (double)(n * threads);
	return true;
}

static void lookup(struct worker *w, const struct ranges *own, uintptr_t *sum)
{
	const struct range *range = &own->range[random_below(&w->random, own->n)];
	void *value = w->rig->tree->load(w->rig->ctx, range->first + range->size / 2);

#ifdef BENCH_CHECK
	if (value != range->value) {
		fprintf(stderr, "page %#llx: loaded %p\n", (unsigned long long)range->first, value);
		abort();
	}
#endif
	*sum += (uintptr_t)value;
}

static void map_one(struct worker *w, struct range *range)
{
	range->size = 1 + random_below(&w->random, PAGES_MAX);
	range->value = value_new(w);
	range->first = w->rig->tree->map(w->rig->ctx, TOP, range->size, range->value);
	if (!range->first) {
		fprintf(stderr, "no place for a range\n");
		exit(1);
	}
}

static void work_vma(struct worker *w)
{
	struct ranges *own = (struct ranges *)w->rig->shared + w->id;
	uintptr_t sum = 0;

	while (work_on(w)) {
		struct range *last = &own->range[own->n - 1], victim;
		uint64_t k = random_below(&w->random, own->n);
		unsigned i;

		for (i = 0; i < LOOKUPS; i++)
			lookup(w, own, &sum);
		victim = own->range[k];
		if (!w->rig->tree->erase(w->rig->ctx, victim.first)) {
			fprintf(stderr, "a range is gone\n");
			abort();
		}
		own->range[k] = *last;
		own->n--;
		for (i = 0; i < LOOKUPS; i++)
			lookup(w, own, &sum);
		own->n++;
		map_one(w, last);
		w->ops += 2 * LOOKUPS + 2;
	}
	__asm__ volatile("" : : "r"(sum));
}

static void finish_vma(struct rig *rig)
{
	struct ranges *all = rig->shared;
	uint64_t t;

	for (t = 0; t < rig->env.param[PARAM_THREADS]; t++)
		free(all[t].range);
	free(all);
}

static void begin_vma(struct rig *rig)
{
	tree_writes_begin(rig);
}

static void end_vma(struct rig *rig)
{
	tree_writes_end(rig);
}

const struct pattern pattern_tree_vma = {
	.prepare = prepare_vma,
	.begin = begin_vma,
	.work = work_vma,
	.end = end_vma,
	.finish = finish_vma,
};

static void work_vma_load(struct worker *w)
{
	const struct ranges *own = (struct ranges *)w->rig->shared + w->id;
	uintptr_t sum = 0;
	unsigned i;

	while (work_on(w)) {
		for (i = 0; i < LOOKUPS; i++)
			lookup(w, own, &sum);
		w->ops += LOOKUPS;
	}
	__asm__ volatile("" : : "r"(sum));
}

const struct pattern pattern_tree_vma_load = {
	.prepare = prepare_vma,
	.work = work_vma_load,
	.finish = finish_vma,
};
