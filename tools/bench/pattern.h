/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* What the patterns of scenarios share; inside the child. */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include "ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct rig;

/* One thread of a round. Threads live through all rounds, and so do their caches. */
struct worker {
	struct rig *rig;
	unsigned id;
	bool reader;
	uint64_t random;
	/* Of this round: what is timed, and what a writer or reader beside it does. */
	uint64_t ops;
	uint64_t side_ops;
	uint64_t began, ended;
	/* Nanoseconds of the part that counts, where that is not all of the round. */
	uint64_t timed;
	/* Of a part of the round in which nobody else worked, where there is one. */
	uint64_t alone_ops;
	uint64_t alone_ns;
	/* The pattern's own. */
	void *own;
} __attribute__((aligned(128)));

struct rig {
	struct bench_env env;
	const struct object_ops *object;
	const struct tree_ops *tree;
	const struct pool_ops *pool;
	void *ctx;
	const struct pattern *pattern;
	struct worker *workers;
	unsigned n_workers;
	/* Operations after which a worker ends its round; UINT64_MAX: when told. */
	uint64_t quota;
	void *shared;
	/* Of a round. */
	double seconds;
	uint32_t stop __attribute__((aligned(128)));
} __attribute__((aligned(128)));

/*
 * A scenario's work. prepare() and finish() run once in the main thread, begin() and end()
 * around each round, untimed; work() in each worker. All but work() may be NULL.
 * live() tells how many objects can be allocated at one time.
 */
struct pattern {
	uint64_t (*live)(const struct bench_env *env);
	bool (*prepare)(struct rig *rig);
	void (*enter)(struct worker *worker);
	void (*begin)(struct rig *rig);
	void (*work)(struct worker *worker);
	void (*end)(struct rig *rig);
	void (*leave)(struct worker *worker);
	void (*finish)(struct rig *rig);
	/* "stat NAME VALUE" lines of its own, after the last round. */
	void (*tell)(const struct rig *rig, FILE *answers);
	/* One round is one pass over the keys, however long it takes. */
	bool pass;
};

extern const struct pattern pattern_pair, pattern_shuffle, pattern_larson, pattern_pipe,
	pattern_crowd, pattern_bulk, pattern_prefill, pattern_retire, pattern_trips, pattern_barn;
extern const struct pattern pattern_refill, pattern_scatter, pattern_scatter_bulk;
extern const struct pattern pattern_tree_load, pattern_tree_scan, pattern_tree_fill,
	pattern_tree_erase, pattern_tree_mixed, pattern_tree_vma, pattern_tree_append,
	pattern_tree_vma_load;

/* Bytes per entry of the tree, measured once by whoever fills it; 0 if nobody did. */
extern double tree_bytes_entry;

/* What the writes of all rounds took, between these two, outside of what is timed. */
void tree_writes_begin(const struct rig *rig);
void tree_writes_end(const struct rig *rig);
void tree_writes_tell(const struct rig *rig, FILE *answers);

uint64_t clock_ns(clockid_t id);

/* Resident memory of this process in KiB: now and at most. */
uint64_t resident_kib(void);
uint64_t resident_peak_kib(void);

/* On a busy machine a round may be over before a worker ran at all: it does some work. */
static inline bool work_on(const struct worker *w)
{
	return (!__atomic_load_n(&w->rig->stop, __ATOMIC_RELAXED) || !w->ops) &&
	       w->ops < w->rig->quota;
}

static inline uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	*state = x;
	return x * UINT64_C(0x2545f4914f6cdd1d);
}

/* A number below n, without division. */
static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
	return (uint64_t)(((__uint128_t)next_random(state) * n) >> 64);
}

static inline void out_of_memory(void)
{
	fprintf(stderr, "out of memory\n");
	exit(1);
}

/*
 * The first byte of each object is written: the write cannot be left out, because the
 * object leaves this function's sight. In a build with BENCH_CHECK the first eight bytes
 * carry the address, so an object that is handed out twice, or written while free, shows.
 */
static inline void object_begin(void *object)
{
	if (!object)
		out_of_memory();
#ifdef BENCH_CHECK
	uint64_t stamp = (uint64_t)(uintptr_t)object ^ UINT64_C(0x5eaf5eaf5eaf5eaf);

	if (memcmp(object, &stamp, sizeof(stamp)) == 0) {
		fprintf(stderr, "object %p was handed out twice\n", object);
		abort();
	}
	memcpy(object, &stamp, sizeof(stamp));
#else
	*(volatile unsigned char *)object = 1;
#endif
}

static inline void object_end(void *object)
{
#ifdef BENCH_CHECK
	uint64_t stamp = (uint64_t)(uintptr_t)object ^ UINT64_C(0x5eaf5eaf5eaf5eaf);

	if (memcmp(object, &stamp, sizeof(stamp)) != 0) {
		fprintf(stderr, "object %p was written by somebody else\n", object);
		abort();
	}
	memset(object, 0, sizeof(stamp));
#else
	(void)object;
#endif
}

#endif
