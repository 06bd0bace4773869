/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What slots do at a barn: each thread gives an empty sheaf for a full one, later that for
 * an empty one, and so on. Half of the threads begin with a full one, so that the pool
 * neither empties nor overflows. With many more threads than cores they are preempted
 * inside trades: how long others wait for them shows in the longest trades.
 *
 * Every 32nd trade is timed, which costs less than 2 ns per trade. Each sheaf carries the
 * mark of who holds it, and in the end all must be there once.
 */
#include "pattern.h"

#include <sched.h>
#include <sheaf/sheaf.h>
#include <time.h>

#define CAPACITY 60
/* In the pool on each side: what a barn with the limits of a cache would hold. */
#define POOLED 32
#define TIMED 32

/* Buckets of times: 8 for each power of two. */
#define BUCKETS (64 * 8)

struct trader {
	struct sheaf *sheaf;
	uint64_t failed;
	uint64_t longest;
	uint64_t times[BUCKETS];
};

struct market {
	struct sheaf **sheaves;
	unsigned n;
	unsigned rounds;
};

static unsigned bucket_of(uint64_t ns)
{
	unsigned top;

	if (ns < 8)
		return (unsigned)ns;
	top = 63 - (unsigned)__builtin_clzll(ns);
	return top * 8 + (unsigned)(ns >> (top - 3) & 7);
}

/* The least time above a bucket. */
static uint64_t bucket_end(unsigned bucket)
{
	return bucket < 8 ? bucket + 1 : (uint64_t)(9 + bucket % 8) << (bucket / 8 - 3);
}

static struct sheaf *sheaf_make(bool full)
{
	size_t bytes = (sheaf_bytes(CAPACITY) + 63) & ~(size_t)63;
	void *memory = aligned_alloc(64, bytes);
	struct sheaf *sheaf;

	if (!memory)
		out_of_memory();
	memset(memory, 0, bytes);
	sheaf = sheaf_init(memory, CAPACITY);
	if (full)
		sheaf->size = CAPACITY;
	return sheaf;
}

static bool prepare_barn(struct rig *rig)
{
	const unsigned threads = (unsigned)rig->env.param[PARAM_THREADS];
	struct market *market = calloc(1, sizeof(*market));
	unsigned i;

	if (!market)
		out_of_memory();
	market->n = 2 * POOLED + threads;
	market->sheaves = calloc(market->n, sizeof(*market->sheaves));
	if (!market->sheaves)
		out_of_memory();
	for (i = 0; i < market->n; i++)
		market->sheaves[i] = sheaf_make(i % 2);
	for (i = 0; i < 2 * POOLED; i++)
		rig->pool->give(rig->ctx, market->sheaves[i]);
	rig->shared = market;
	return true;
}

static void enter_barn(struct worker *w)
{
	struct market *market = w->rig->shared;
	struct trader *trader = calloc(1, sizeof(*trader));

	if (!trader)
		out_of_memory();
	trader->sheaf = market->sheaves[2 * POOLED + w->id];
	trader->sheaf->objects[0] = trader;
	w->own = trader;
}

/* What the first round counted was warm-up. */
static void begin_barn(struct rig *rig)
{
	struct market *market = rig->shared;
	unsigned i;

	for (i = 0; market->rounds == 1 && i < rig->n_workers; i++) {
		struct trader *trader = rig->workers[i].own;

		*trader = (struct trader){.sheaf = trader->sheaf};
	}
	market->rounds++;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void fault(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

static struct sheaf *trade(const struct worker *w, struct sheaf *mine)
{
	const struct pool_ops *ops = w->rig->pool;

	return sheaf_empty(mine) ? ops->trade_empty(w->rig->ctx, mine)
				 : ops->trade_full(w->rig->ctx, mine);
}

static struct sheaf *trade_timed(struct worker *w, struct sheaf *mine)
{
	struct trader *trader = w->own;
	uint64_t began = now_ns(), took;
	struct sheaf *other = trade(w, mine);

	took = now_ns() - began;
	trader->times[bucket_of(took)]++;
	if (took > trader->longest)
		trader->longest = took;
	return other;
}

static void work_barn(struct worker *w)
{
	const uint64_t steps = w->rig->env.param[PARAM_STEPS];
	struct trader *trader = w->own;
	struct sheaf *mine = trader->sheaf, *other;
	uint64_t step;

	while (work_on(w)) {
		uint32_t size = mine->size;

		if (mine->objects[0] != trader)
			fault("a sheaf in two hands");
		mine->objects[0] = NULL;
		other = w->ops % TIMED ? trade(w, mine) : trade_timed(w, mine);
		if (other) {
			if (other->size + size != CAPACITY || other->objects[0])
				fault("not the sheaf that was asked for");
			mine = other;
			w->ops++;
		} else {
			trader->failed++;
			sched_yield();
		}
		mine->objects[0] = trader;
		for (step = 0; step < steps; step++)
			next_random(&w->random);
	}
	trader->sheaf = mine;
}

/* The longest trade, and the one that a thousandth of them reached. */
static void tell_barn(const struct rig *rig, FILE *answers)
{
	uint64_t times[BUCKETS] = {0}, n = 0, above = 0, longest = 0, failed = 0;
	unsigned i, k, bucket = BUCKETS;

	for (i = 0; i < rig->n_workers; i++) {
		const struct trader *trader = rig->workers[i].own;

		for (k = 0; k < BUCKETS; k++) {
			times[k] += trader->times[k];
			n += trader->times[k];
		}
		failed += trader->failed;
		longest = trader->longest > longest ? trader->longest : longest;
	}
	while (bucket > 1 && above <= n / 1000)
		above += times[--bucket];
	fprintf(answers, "stat longest_us %.2f\n", (double)longest / 1e3);
	fprintf(answers, "stat tail_us %.2f\n", (double)bucket_end(bucket) / 1e3);
	fprintf(answers, "stat failed %llu\n", (unsigned long long)failed);
}

/* Into the market's list, in the place of the sheaf: counted. */
static void found(struct market *market, const struct sheaf *sheaf, unsigned *n)
{
	unsigned i;

	for (i = 0; i < market->n && market->sheaves[i] != sheaf; i++)
		;
	if (i == market->n)
		fault("a sheaf came back that is none of ours, or came twice");
	free(market->sheaves[i]);
	market->sheaves[i] = NULL;
	++*n;
}

static void finish_barn(struct rig *rig)
{
	struct market *market = rig->shared;
	struct sheaf *sheaf;
	unsigned i, n = 0;

	for (i = 0; i < 2; i++)
		while ((sheaf = rig->pool->take(rig->ctx, i)))
			found(market, sheaf, &n);
	for (i = 0; i < rig->n_workers; i++) {
		struct trader *trader = rig->workers[i].own;

		found(market, trader->sheaf, &n);
		free(trader);
	}
	if (n != market->n)
		fault("a sheaf is lost");
	free(market->sheaves);
	free(market);
}

const struct pattern pattern_barn = {
	.prepare = prepare_barn,
	.enter = enter_barn,
	.begin = begin_barn,
	.work = work_barn,
	.tell = tell_barn,
	.finish = finish_barn,
};
