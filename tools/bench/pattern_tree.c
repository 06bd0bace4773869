/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The patterns of trees of points. */
#include "pattern.h"

#define STRIDE 64

double tree_bytes_entry;

/* Of all rounds; what they were when the last one began. */
static struct bench_writes written, writes_begun;

void tree_writes_begin(const struct rig *rig)
{
	if (rig->tree->writes)
		rig->tree->writes(rig->ctx, &writes_begun);
}

void tree_writes_end(const struct rig *rig)
{
	struct bench_writes now;

	if (!rig->tree->writes)
		return;
	rig->tree->writes(rig->ctx, &now);
	written.writes += now.writes - writes_begun.writes;
	written.nodes += now.nodes - writes_begun.nodes;
	written.objects += now.objects - writes_begun.objects;
}

void tree_writes_tell(const struct rig *rig, FILE *answers)
{
	(void)rig;
	if (!written.writes)
		return;
	fprintf(answers, "stat nodes_write %.4f\n", (double)written.nodes / (double)written.writes);
	fprintf(answers, "stat objects_write %.4f\n",
		(double)written.objects / (double)written.writes);
}

/* A bijection on 64 bits. */
static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* A bijection on the numbers below n: one on the next power of two, walked into range. */
static uint64_t scatter(uint64_t i, uint64_t n)
{
	uint64_t mask = 1, k = i;

	while (mask < n)
		mask <<= 1;
	mask -= 1;
	do {
		k = (k * UINT64_C(0x9e3779b97f4a7c15) + 0x1234567) & mask;
		k ^= k >> 7;
		k = (k * UINT64_C(0xbf58476d1ce4e5b9)) & mask;
	} while (k >= n);
	return k;
}

/* The i-th key in the order of insertion; in no order but ORDER_SPARSE is there a hole. */
static uint64_t key_of(const struct rig *rig, uint64_t i)
{
	switch (rig->env.param[PARAM_ORDER]) {
	case ORDER_SEQUENTIAL:
		return i;
	case ORDER_RANDOM:
		return scatter(i, rig->env.param[PARAM_KEYS]);
	default:
		return mix(i);
	}
}

/* Never NULL; tells the key in 63 bits. */
static void *value_of(uint64_t key)
{
	return (void *)(uintptr_t)(key << 1 | 1);
}

static void check_value(const void *value, uint64_t key)
{
#ifdef BENCH_CHECK
	if (value != value_of(key)) {
		fprintf(stderr, "key %#llx: loaded %p\n", (unsigned long long)key, value);
		abort();
	}
#else
	(void)value;
	(void)key;
#endif
}

static void fill_some(struct rig *rig, uint64_t from, uint64_t to)
{
	uint64_t i, key;

	for (i = from; i < to; i++) {
		key = key_of(rig, i);
		if (!rig->tree->store(rig->ctx, key, key, value_of(key)))
			out_of_memory();
	}
}

static void measure_fill(struct rig *rig)
{
	const uint64_t keys = rig->env.param[PARAM_KEYS];
	uint64_t before = resident_kib();

	fill_some(rig, 0, keys);
	tree_bytes_entry = (double)(resident_kib() - before) * 1024.0 / (double)keys;
}

static bool prepare_filled(struct rig *rig)
{
	if (rig->tree->enter)
		rig->tree->enter(rig->ctx);
	measure_fill(rig);
	if (rig->tree->leave)
		rig->tree->leave(rig->ctx);
	return true;
}

static void load_some(struct worker *w, unsigned n, uintptr_t *sum)
{
	const struct tree_ops *ops = w->rig->tree;
	const uint64_t keys = w->rig->env.param[PARAM_KEYS];
	unsigned i;

	for (i = 0; i < n; i++) {
		uint64_t key = key_of(w->rig, random_below(&w->random, keys));
		void *value = ops->load(w->rig->ctx, key);

		check_value(value, key);
		*sum += (uintptr_t)value;
	}
}

/* Keep a sum that nobody reads. */
static void keep(uintptr_t sum)
{
	__asm__ volatile("" : : "r"(sum));
}

/* Random keys that are there. */
static void work_load(struct worker *w)
{
	uintptr_t sum = 0;

	while (work_on(w)) {
		load_some(w, STRIDE, &sum);
		w->ops += STRIDE;
	}
	keep(sum);
}

const struct pattern pattern_tree_load = {
	.prepare = prepare_filled,
	.work = work_load,
};

/* From a random key upwards, 1000 entries at a time. */
static void work_scan(struct worker *w)
{
	const struct tree_ops *ops = w->rig->tree;
	const uint64_t keys = w->rig->env.param[PARAM_KEYS];
	uint64_t sum = 0;

	while (work_on(w)) {
		uint64_t from = key_of(w->rig, random_below(&w->random, keys));

		w->ops += ops->scan(w->rig->ctx, from, 1000, &sum);
	}
	keep((uintptr_t)sum);
}

const struct pattern pattern_tree_scan = {
	.prepare = prepare_filled,
	.work = work_scan,
};

/* From nothing to all keys. Only the first round tells the bytes: memory is reused later. */
static void work_fill(struct worker *w)
{
	if (tree_bytes_entry == 0)
		measure_fill(w->rig);
	else
		fill_some(w->rig, 0, w->rig->env.param[PARAM_KEYS]);
	w->ops += w->rig->env.param[PARAM_KEYS];
}

static void begin_fill(struct rig *rig)
{
	tree_writes_begin(rig);
}

static void end_clear(struct rig *rig)
{
	tree_writes_end(rig);
	rig->tree->clear(rig->ctx);
}

const struct pattern pattern_tree_fill = {
	.begin = begin_fill,
	.work = work_fill,
	.end = end_clear,
	.pass = true,
};

/* Each key is above all that are there. */
static void work_append(struct worker *w)
{
	const struct tree_ops *ops = w->rig->tree;
	const uint64_t keys = w->rig->env.param[PARAM_KEYS];
	uint64_t key;

	for (key = 0; key < keys; key++)
		if (!(ops->append ? ops->append(w->rig->ctx, key, value_of(key))
				  : ops->store(w->rig->ctx, key, key, value_of(key))))
			out_of_memory();
	w->ops += keys;
}

const struct pattern pattern_tree_append = {
	.begin = begin_fill,
	.work = work_append,
	.end = end_clear,
	.pass = true,
};

/* All keys in the order of their insertion, which is random. */
static void work_erase(struct worker *w)
{
	const uint64_t keys = w->rig->env.param[PARAM_KEYS];
	uint64_t i;

	for (i = 0; i < keys; i++)
		if (!w->rig->tree->erase(w->rig->ctx, key_of(w->rig, keys - 1 - i)))
			abort();
	w->ops += keys;
}

static void begin_erase(struct rig *rig)
{
	if (tree_bytes_entry == 0)
		measure_fill(rig);
	else
		fill_some(rig, 0, rig->env.param[PARAM_KEYS]);
	tree_writes_begin(rig);
}

const struct pattern pattern_tree_erase = {
	.begin = begin_erase,
	.work = work_erase,
	.end = end_clear,
	.pass = true,
};

/*
 * In the first half of a round readers load alone and the writer sleeps; then it erases and
 * stores again as fast as it can, and readers now and then miss. Both halves are of one
 * round, so that whatever else the machine does hits them alike.
 */
static uint32_t beside;

static void begin_mixed(struct rig *rig)
{
	__atomic_store_n(&beside, 0, __ATOMIC_RELAXED);
	tree_writes_begin(rig);
}

static void end_mixed(struct rig *rig)
{
	tree_writes_end(rig);
}

static void load_any(struct worker *w, uintptr_t *sum)
{
	const uint64_t keys = w->rig->env.param[PARAM_KEYS];
	unsigned i;

	for (i = 0; i < STRIDE; i++) {
		uint64_t key = key_of(w->rig, random_below(&w->random, keys));

		*sum += (uintptr_t)w->rig->tree->load(w->rig->ctx, key);
	}
}

static void read_mixed(struct worker *w)
{
	uint64_t began = clock_ns(CLOCK_MONOTONIC);
	uintptr_t sum = 0;

	do {
		load_any(w, &sum);
		w->alone_ops += STRIDE;
	} while (!__atomic_load_n(&beside, __ATOMIC_RELAXED));
	w->alone_ns = clock_ns(CLOCK_MONOTONIC) - began;
	began += w->alone_ns;
	while (work_on(w)) {
		load_any(w, &sum);
		w->ops += STRIDE;
	}
	w->timed = clock_ns(CLOCK_MONOTONIC) - began;
	keep(sum);
}

static void work_mixed(struct worker *w)
{
	const struct tree_ops *ops = w->rig->tree;
	const uint64_t keys = w->rig->env.param[PARAM_KEYS];
	struct timespec half = {0, 0};
	unsigned i;

	if (w->reader) {
		read_mixed(w);
		return;
	}
	half.tv_sec = (time_t)(w->rig->seconds / 2);
	half.tv_nsec = (long)((w->rig->seconds / 2 - (double)half.tv_sec) * 1e9);
	nanosleep(&half, NULL);
	__atomic_store_n(&beside, 1, __ATOMIC_RELAXED);
	do {
		for (i = 0; i < STRIDE / 2; i++) {
			uint64_t key = key_of(w->rig, random_below(&w->random, keys));

			ops->erase(w->rig->ctx, key);
			if (!ops->store(w->rig->ctx, key, key, value_of(key)))
				out_of_memory();
		}
		w->side_ops += STRIDE;
	} while (!__atomic_load_n(&w->rig->stop, __ATOMIC_RELAXED));
}

const struct pattern pattern_tree_mixed = {
	.prepare = prepare_filled,
	.begin = begin_mixed,
	.work = work_mixed,
	.end = end_mixed,
};
