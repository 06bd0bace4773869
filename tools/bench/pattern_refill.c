/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What lies below the caches: refill, scatter and scatter-bulk.
 *
 * Each turn begins cold: what this thread and the process hold ready in caches has gone to the
 * layer below (object_ops.cold), where the competitor has a call for that. No competitor is made
 * to give pages to the system, so that faults are not what is compared. Then many objects are
 * allocated by an array, their first bytes written, and freed in random order. Only the part
 * that the scenario is about is timed; the order is drawn outside of it, and every competitor
 * gets the same one.
 */
#include "pattern.h"

#include <time.h>

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static uint64_t live_refill(const struct bench_env *env)
{
	return env->param[PARAM_THREADS] * env->param[PARAM_BATCH];
}

static void enter_refill(struct worker *w)
{
	w->own = calloc(w->rig->env.param[PARAM_BATCH], sizeof(void *));
	if (!w->own)
		out_of_memory();
}

static void leave_refill(struct worker *w)
{
	free(w->own);
}

static void make_cold(struct worker *w)
{
	if (w->rig->object->cold)
		w->rig->object->cold(w->rig->ctx);
}

/* Returns the nanoseconds of the allocation; with `use`, and of the first writes. */
static uint64_t fill(struct worker *w, size_t n, void **objects, bool use)
{
	uint64_t began = now_ns(), ended;
	size_t i;

	if (!w->rig->object->alloc_bulk(w->rig->ctx, n, objects))
		out_of_memory();
	ended = now_ns();
	for (i = 0; i < n; i++)
		object_begin(objects[i]);
	return (use ? now_ns() : ended) - began;
}

static void in_random_order(struct worker *w, size_t n, void **objects)
{
	size_t i;

	for (i = n; i > 1; i--) {
		size_t k = random_below(&w->random, i);
		void *object = objects[k];

		objects[k] = objects[i - 1];
		objects[i - 1] = object;
	}
	for (i = 0; i < n; i++)
		object_end(objects[i]);
}

static uint64_t empty_single(struct worker *w, size_t n, void **objects)
{
	const struct object_ops *ops = w->rig->object;
	void *ctx = w->rig->ctx;
	uint64_t began = now_ns();
	size_t i;

	for (i = 0; i < n; i++)
		ops->free(ctx, objects[i]);
	return now_ns() - began;
}

static uint64_t empty_bulk(struct worker *w, size_t n, void **objects)
{
	uint64_t began = now_ns();

	w->rig->object->free_bulk(w->rig->ctx, n, objects);
	return now_ns() - began;
}

/* One operation: one object allocated into a cold cache; `used`: and its first byte written. */
static void work_refill(struct worker *w)
{
	const size_t n = w->rig->env.param[PARAM_BATCH];
	const bool use = w->rig->env.param[PARAM_USED];

	while (work_on(w)) {
		make_cold(w);
		w->timed += fill(w, n, w->own, use);
		in_random_order(w, n, w->own);
		empty_bulk(w, n, w->own);
		w->ops += n;
	}
}

/* One operation: one object freed, where neighbours in time are none in memory. */
static void scatter(struct worker *w, uint64_t (*empty)(struct worker *, size_t, void **))
{
	const size_t n = w->rig->env.param[PARAM_BATCH];

	while (work_on(w)) {
		make_cold(w);
		fill(w, n, w->own, true);
		in_random_order(w, n, w->own);
		w->timed += empty(w, n, w->own);
		w->ops += n;
	}
}

static void work_scatter(struct worker *w)
{
	scatter(w, empty_single);
}

static void work_scatter_bulk(struct worker *w)
{
	scatter(w, empty_bulk);
}

const struct pattern pattern_refill = {
	.live = live_refill,
	.enter = enter_refill,
	.work = work_refill,
	.leave = leave_refill,
};

const struct pattern pattern_scatter = {
	.live = live_refill,
	.enter = enter_refill,
	.work = work_scatter,
	.leave = leave_refill,
};

const struct pattern pattern_scatter_bulk = {
	.live = live_refill,
	.enter = enter_refill,
	.work = work_scatter_bulk,
	.leave = leave_refill,
};
