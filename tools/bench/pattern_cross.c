/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The patterns in which objects are freed by other threads than those that allocated
 * them, or later: larson, pipe, retire. */
#include "pattern.h"

#include <ck_pr.h>
#include <sched.h>

/* ---- larson ---- */

/* A set of objects that wanders from thread to thread; two for each, so that there is
 * always another one to be had. */
struct basket {
	void **objects;
};

static uint64_t live_larson(const struct bench_env *env)
{
	return env->param[PARAM_THREADS] * env->param[PARAM_LIVE] * 2 + env->param[PARAM_THREADS];
}

static bool prepare_larson(struct rig *rig)
{
	const uint64_t n = rig->env.param[PARAM_THREADS];
	struct basket *shelf = calloc(n, sizeof(*shelf));

	if (!shelf)
		out_of_memory();
	rig->shared = shelf;
	return true;
}

static void **basket_fill(struct rig *rig)
{
	const uint64_t live = rig->env.param[PARAM_LIVE];
	void **objects = calloc(live, sizeof(void *));
	uint64_t i;

	if (!objects)
		out_of_memory();
	for (i = 0; i < live; i++) {
		objects[i] = rig->object->alloc(rig->ctx);
		object_begin(objects[i]);
	}
	return objects;
}

/* Each brings one for itself and one for the shelf. */
static void enter_larson(struct worker *w)
{
	struct basket *shelf = w->rig->shared;

	w->own = basket_fill(w->rig);
	shelf[w->id].objects = basket_fill(w->rig);
}

/* Replace objects at random places of a basket, then put it down and take another. */
static void work_larson(struct worker *w)
{
	const struct object_ops *ops = w->rig->object;
	const uint64_t live = w->rig->env.param[PARAM_LIVE];
	const uint64_t threads = w->rig->env.param[PARAM_THREADS];
	struct basket *shelf = w->rig->shared;
	void *ctx = w->rig->ctx;

	while (work_on(w)) {
		void **objects = w->own;
		uint64_t i;

		for (i = 0; i < live; i++) {
			void **place = &objects[random_below(&w->random, live)];

			object_end(*place);
			ops->free(ctx, *place);
			*place = ops->alloc(ctx);
			object_begin(*place);
		}
		w->ops += live;
		w->own = __atomic_exchange_n(&shelf[random_below(&w->random, threads)].objects,
					     w->own, __ATOMIC_ACQ_REL);
	}
}

static void basket_empty(struct rig *rig, void **objects)
{
	uint64_t i;

	for (i = 0; i < rig->env.param[PARAM_LIVE]; i++)
		rig->object->free(rig->ctx, objects[i]);
	free(objects);
}

static void leave_larson(struct worker *w)
{
	basket_empty(w->rig, w->own);
}

static void finish_larson(struct rig *rig)
{
	struct basket *shelf = rig->shared;
	uint64_t i;

	for (i = 0; i < rig->env.param[PARAM_THREADS]; i++)
		basket_empty(rig, shelf[i].objects);
	free(shelf);
}

const struct pattern pattern_larson = {
	.live = live_larson,
	.prepare = prepare_larson,
	.enter = enter_larson,
	.work = work_larson,
	.leave = leave_larson,
	.finish = finish_larson,
};

/* ---- pipe ---- */

/* One producer, one consumer. Each side works on a stretch at a time, so that the ring
 * itself costs little. */
#define RING 256
#define STRETCH 32

struct ring {
	uint64_t head __attribute__((aligned(128)));
	uint64_t tail __attribute__((aligned(128)));
	void *objects[RING] __attribute__((aligned(128)));
};

static uint64_t live_pipe(const struct bench_env *env)
{
	return (env->param[PARAM_THREADS] + 1) / 2 * (RING + STRETCH);
}

static bool prepare_pipe(struct rig *rig)
{
	size_t bytes = sizeof(struct ring) * (rig->env.param[PARAM_THREADS] / 2);

	rig->shared = aligned_alloc(128, bytes);
	if (!rig->shared)
		out_of_memory();
	memset(rig->shared, 0, bytes);
	return true;
}

static void pipe_wait(unsigned *spins)
{
	if (++*spins % 64)
		ck_pr_stall();
	else
		sched_yield();
}

static void pipe_produce(struct worker *w, struct ring *ring)
{
	const struct object_ops *ops = w->rig->object;
	void *ctx = w->rig->ctx;
	uint64_t tail = ring->tail;
	unsigned spins = 0;

	while (work_on(w)) {
		uint64_t i;

		if (tail - __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE) > RING - STRETCH) {
			pipe_wait(&spins);
			continue;
		}
		for (i = 0; i < STRETCH; i++) {
			void *object = ops->alloc(ctx);

			object_begin(object);
			ring->objects[(tail + i) % RING] = object;
		}
		tail += STRETCH;
		__atomic_store_n(&ring->tail, tail, __ATOMIC_RELEASE);
		w->ops += STRETCH;
	}
}

static void pipe_consume(struct worker *w, struct ring *ring)
{
	const struct object_ops *ops = w->rig->object;
	void *ctx = w->rig->ctx;
	uint64_t head = ring->head, quota = w->rig->quota, done = 0;
	unsigned spins = 0;

	/* At least one stretch, or the producer might wait for ever. */
	while (done < quota && (!done || !__atomic_load_n(&w->rig->stop, __ATOMIC_RELAXED))) {
		uint64_t i;

		if (__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) == head) {
			pipe_wait(&spins);
			continue;
		}
		for (i = 0; i < STRETCH; i++) {
			void *object = ring->objects[(head + i) % RING];

			object_end(object);
			ops->free(ctx, object);
		}
		head += STRETCH;
		done += STRETCH;
		__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	}
}

/* Two threads share a ring; an odd one out has nothing to do. */
static void work_pipe(struct worker *w)
{
	struct ring *rings = w->rig->shared;
	unsigned pair = w->id / 2;

	if (pair >= w->rig->env.param[PARAM_THREADS] / 2)
		return;
	if (w->id % 2 == 0)
		pipe_produce(w, &rings[pair]);
	else
		pipe_consume(w, &rings[pair]);
}

static void finish_pipe(struct rig *rig)
{
	struct ring *rings = rig->shared;
	uint64_t i;

	for (i = 0; i < rig->env.param[PARAM_THREADS] / 2; i++) {
		struct ring *ring = &rings[i];

		for (; ring->head != ring->tail; ring->head++)
			rig->object->free(rig->ctx, ring->objects[ring->head % RING]);
	}
	free(rings);
}

const struct pattern pattern_pipe = {
	.live = live_pipe,
	.prepare = prepare_pipe,
	.work = work_pipe,
	.finish = finish_pipe,
};

/* ---- retire ---- */

static uint64_t live_retire(const struct bench_env *env)
{
	(void)env;
	return 0;
}

/* A reader that is always in some short read section. */
static void retire_read(struct worker *w)
{
	const struct object_ops *ops = w->rig->object;
	void *ctx = w->rig->ctx;
	unsigned i;

	while (!__atomic_load_n(&w->rig->stop, __ATOMIC_RELAXED)) {
		ops->read_lock(ctx);
		for (i = 0; i < 100; i++)
			next_random(&w->random);
		ops->read_unlock(ctx);
		w->side_ops++;
	}
}

/* Allocate, and free after a grace period, as a writer does that replaces nodes. */
static void work_retire(struct worker *w)
{
	const struct object_ops *ops = w->rig->object;
	void *ctx = w->rig->ctx;
	unsigned i;

	if (w->reader) {
		retire_read(w);
		return;
	}
	while (work_on(w)) {
		for (i = 0; i < 128; i++) {
			void *object = ops->alloc(ctx);

			object_begin(object);
			object_end(object);
			ops->retire(ctx, object);
		}
		w->ops += 128;
	}
}

const struct pattern pattern_retire = {
	.live = live_retire,
	.work = work_retire,
};

/* Stands for the pattern that PARAM_PATTERN names. */
const struct pattern pattern_trips = {0};
