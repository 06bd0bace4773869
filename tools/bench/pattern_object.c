/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The patterns in which each thread frees what it allocated: pair, shuffle, crowd, bulk,
 * prefill. */
#include "pattern.h"

/* Operations between two looks at whether the round is over, about. */
#define STRIDE 512

static uint64_t live_batch(const struct bench_env *env)
{
	return env->param[PARAM_THREADS] * env->param[PARAM_BATCH];
}

static void own_array(struct worker *w, uint64_t n)
{
	w->own = calloc(n, sizeof(void *));
	if (!w->own)
		out_of_memory();
}

static void enter_batch(struct worker *w)
{
	own_array(w, w->rig->env.param[PARAM_BATCH]);
}

static void leave_own(struct worker *w)
{
	free(w->own);
}

/* Allocate a batch, free it in the same order. One operation: one object there and back. */
static void work_pair(struct worker *w)
{
	const struct object_ops *ops = w->rig->object;
	const size_t batch = w->rig->env.param[PARAM_BATCH];
	const size_t turns = batch < STRIDE ? STRIDE / batch : 1;
	void *ctx = w->rig->ctx, **objects = w->own;
	size_t turn, i;

	while (work_on(w)) {
		for (turn = 0; turn < turns; turn++) {
			for (i = 0; i < batch; i++) {
				objects[i] = ops->alloc(ctx);
				object_begin(objects[i]);
			}
			for (i = 0; i < batch; i++) {
				object_end(objects[i]);
				ops->free(ctx, objects[i]);
			}
		}
		w->ops += turns * batch;
	}
}

const struct pattern pattern_pair = {
	.live = live_batch,
	.enter = enter_batch,
	.work = work_pair,
	.leave = leave_own,
};

/* As pair; many more threads than cores, so that most of them hold a batch and wait. */
const struct pattern pattern_crowd = {
	.live = live_batch,
	.enter = enter_batch,
	.work = work_pair,
	.leave = leave_own,
};

static uint64_t live_shuffle(const struct bench_env *env)
{
	return env->param[PARAM_THREADS] * env->param[PARAM_LIVE];
}

static void enter_shuffle(struct worker *w)
{
	own_array(w, w->rig->env.param[PARAM_LIVE]);
}

/* Fill up to `live`, then free in random order. */
static void work_shuffle(struct worker *w)
{
	const struct object_ops *ops = w->rig->object;
	const size_t live = w->rig->env.param[PARAM_LIVE];
	void *ctx = w->rig->ctx, **objects = w->own;
	size_t i, k;

	while (work_on(w)) {
		for (i = 0; i < live; i++) {
			objects[i] = ops->alloc(ctx);
			object_begin(objects[i]);
		}
		for (i = live; i > 0; i--) {
			k = random_below(&w->random, i);
			object_end(objects[k]);
			ops->free(ctx, objects[k]);
			objects[k] = objects[i - 1];
		}
		w->ops += live;
	}
}

const struct pattern pattern_shuffle = {
	.live = live_shuffle,
	.enter = enter_shuffle,
	.work = work_shuffle,
	.leave = leave_own,
};

/* As pair, by arrays. Who has no bulk operations is called in a loop by its own table. */
static void work_bulk(struct worker *w)
{
	const struct object_ops *ops = w->rig->object;
	const size_t batch = w->rig->env.param[PARAM_BATCH];
	const size_t turns = batch < STRIDE ? STRIDE / batch : 1;
	void *ctx = w->rig->ctx, **objects = w->own;
	size_t turn, i;

	while (work_on(w)) {
		for (turn = 0; turn < turns; turn++) {
			if (!ops->alloc_bulk(ctx, batch, objects))
				out_of_memory();
			for (i = 0; i < batch; i++)
				object_begin(objects[i]);
			for (i = 0; i < batch; i++)
				object_end(objects[i]);
			ops->free_bulk(ctx, batch, objects);
		}
		w->ops += turns * batch;
	}
}

const struct pattern pattern_bulk = {
	.live = live_batch,
	.enter = enter_batch,
	.work = work_bulk,
	.leave = leave_own,
};

static uint64_t live_prefill(const struct bench_env *env)
{
	return env->param[PARAM_THREADS] * env->param[PARAM_BOUND] * 2;
}

static void enter_prefill(struct worker *w)
{
	own_array(w, w->rig->env.param[PARAM_BOUND]);
}

/*
 * Set aside for the worst case, use some of it, give the rest back; later free what was
 * used. One operation: one such section.
 */
static void work_prefill(struct worker *w)
{
	const struct object_ops *ops = w->rig->object;
	const unsigned bound = (unsigned)w->rig->env.param[PARAM_BOUND];
	const unsigned used = (unsigned)w->rig->env.param[PARAM_USED];
	void *ctx = w->rig->ctx, **objects = w->own;
	struct bench_section section;
	unsigned turn, i;

	while (work_on(w)) {
		for (turn = 0; turn < 32; turn++) {
			if (!ops->section_begin(ctx, &section, bound))
				out_of_memory();
			for (i = 0; i < used; i++) {
				objects[i] = ops->section_alloc(ctx, &section);
				object_begin(objects[i]);
			}
			ops->section_end(ctx, &section);
			for (i = 0; i < used; i++) {
				object_end(objects[i]);
				ops->free(ctx, objects[i]);
			}
		}
		w->ops += 32;
	}
}

const struct pattern pattern_prefill = {
	.live = live_prefill,
	.enter = enter_prefill,
	.work = work_prefill,
	.leave = leave_own,
};
