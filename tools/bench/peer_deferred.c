/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * malloc, and free after a grace period: call_rcu per object, call_rcu per batch of 62,
 * defer_rcu, ck_epoch_call. The head that call_rcu and ck_epoch need lies inside the
 * object, as in a program that uses them.
 */
#include "peers_in.h"

#include <ck_epoch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <urcu.h>

/* Bytes of an object before the head: what a pattern may write. */
#define OWN_BYTES 16

struct deferred {
	size_t size;
	ck_epoch_t epoch;
};

static void *deferred_setup(const struct bench_env *env)
{
	struct deferred *d = aligned_alloc(64, (sizeof(*d) + 63) & ~(size_t)63);

	if (!d)
		return NULL;
	memset(d, 0, sizeof(*d));
	d->size = env->param[PARAM_SIZE];
	if (d->size < OWN_BYTES + sizeof(struct rcu_head))
		d->size = OWN_BYTES + sizeof(struct rcu_head);
	ck_epoch_init(&d->epoch);
	return d;
}

static void deferred_teardown(void *ctx)
{
	rcu_barrier();
	free(ctx);
}

static void *deferred_alloc(void *ctx)
{
	return malloc(((struct deferred *)ctx)->size);
}

static void deferred_free(void *ctx, void *object)
{
	(void)ctx;
	free(object);
}

static void urcu_enter(void *ctx, unsigned thread)
{
	(void)ctx;
	(void)thread;
	rcu_register_thread();
}

static void urcu_leave(void *ctx)
{
	(void)ctx;
	rcu_unregister_thread();
}

static void urcu_read_lock(void *ctx)
{
	(void)ctx;
	rcu_read_lock();
}

static void urcu_read_unlock(void *ctx)
{
	(void)ctx;
	rcu_read_unlock();
}

static void urcu_settle(void *ctx)
{
	(void)ctx;
	rcu_barrier();
}

/* ---- call_rcu per object ---- */

static void one_ripe(struct rcu_head *head)
{
	free((char *)head - OWN_BYTES);
}

static void one_retire(void *ctx, void *object)
{
	(void)ctx;
	call_rcu((struct rcu_head *)((char *)object + OWN_BYTES), one_ripe);
}

static const struct object_ops call_rcu_ops = {
	.setup = deferred_setup,
	.teardown = deferred_teardown,
	.enter = urcu_enter,
	.leave = urcu_leave,
	.alloc = deferred_alloc,
	.free = deferred_free,
	.retire = one_retire,
	.read_lock = urcu_read_lock,
	.read_unlock = urcu_read_unlock,
	.settle = urcu_settle,
};

const struct bench_peer peer_call_rcu = {.object = &call_rcu_ops, .version = malloc_version};

/* ---- call_rcu per batch: what a careful user writes by hand ---- */

#define BATCH 62

struct batch {
	struct rcu_head head;
	unsigned n;
	void *objects[BATCH];
};

static __thread struct batch *batch;

static void batch_ripe(struct rcu_head *head)
{
	struct batch *ripe = (struct batch *)head;
	unsigned i;

	for (i = 0; i < ripe->n; i++)
		free(ripe->objects[i]);
	free(ripe);
}

static void batch_retire(void *ctx, void *object)
{
	(void)ctx;
	if (!batch) {
		batch = malloc(sizeof(*batch));
		if (!batch) {
			fprintf(stderr, "out of memory\n");
			exit(1);
		}
		batch->n = 0;
	}
	batch->objects[batch->n++] = object;
	if (batch->n == BATCH) {
		call_rcu(&batch->head, batch_ripe);
		batch = NULL;
	}
}

static void batch_leave(void *ctx)
{
	if (batch)
		call_rcu(&batch->head, batch_ripe);
	batch = NULL;
	urcu_leave(ctx);
}

static const struct object_ops call_rcu_batch_ops = {
	.setup = deferred_setup,
	.teardown = deferred_teardown,
	.enter = urcu_enter,
	.leave = batch_leave,
	.alloc = deferred_alloc,
	.free = deferred_free,
	.retire = batch_retire,
	.read_lock = urcu_read_lock,
	.read_unlock = urcu_read_unlock,
	.settle = urcu_settle,
};

const struct bench_peer peer_call_rcu_batch = {.object = &call_rcu_batch_ops,
					       .version = malloc_version};

/* ---- defer_rcu ---- */

static void defer_enter(void *ctx, unsigned thread)
{
	urcu_enter(ctx, thread);
	if (rcu_defer_register_thread()) {
		fprintf(stderr, "rcu_defer_register_thread failed\n");
		exit(1);
	}
}

static void defer_leave(void *ctx)
{
	rcu_defer_unregister_thread();
	urcu_leave(ctx);
}

static void defer_retire(void *ctx, void *object)
{
	(void)ctx;
	defer_rcu(free, object);
}

static void defer_settle(void *ctx)
{
	(void)ctx;
	rcu_defer_barrier();
}

static const struct object_ops defer_rcu_ops = {
	.setup = deferred_setup,
	.teardown = deferred_teardown,
	.enter = defer_enter,
	.leave = defer_leave,
	.alloc = deferred_alloc,
	.free = deferred_free,
	.retire = defer_retire,
	.read_lock = urcu_read_lock,
	.read_unlock = urcu_read_unlock,
	.settle = defer_settle,
};

const struct bench_peer peer_defer_rcu = {.object = &defer_rcu_ops, .version = malloc_version};

/* ---- ck_epoch_call ---- */

/* Between two polls; a poll looks at all threads, and frees what is ripe. */
#define POLL 64

static __thread ck_epoch_record_t *record;
static __thread unsigned unpolled;

/* A record cannot be taken out of an epoch: it is freed with it. */
static void epoch_enter(void *ctx, unsigned thread)
{
	struct deferred *d = ctx;

	(void)thread;
	record = aligned_alloc(64, (sizeof(*record) + 63) & ~(size_t)63);
	if (!record) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	ck_epoch_register(&d->epoch, record, NULL);
}

static void epoch_leave(void *ctx)
{
	(void)ctx;
	ck_epoch_barrier(record);
	ck_epoch_unregister(record);
}

static void epoch_ripe(ck_epoch_entry_t *entry)
{
	free((char *)entry - OWN_BYTES);
}

static void epoch_retire(void *ctx, void *object)
{
	(void)ctx;
	ck_epoch_call(record, (ck_epoch_entry_t *)((char *)object + OWN_BYTES), epoch_ripe);
	if (++unpolled == POLL) {
		unpolled = 0;
		ck_epoch_poll(record);
	}
}

static void epoch_read_lock(void *ctx)
{
	(void)ctx;
	ck_epoch_begin(record, NULL);
}

static void epoch_read_unlock(void *ctx)
{
	(void)ctx;
	ck_epoch_end(record, NULL);
}

static void epoch_teardown(void *ctx)
{
	struct deferred *d = ctx;
	ck_stack_entry_t *entry, *next;

	CK_STACK_FOREACH_SAFE(&d->epoch.records, entry, next)
	free((char *)entry - offsetof(ck_epoch_record_t, record_next));
	free(d);
}

static const struct object_ops ck_epoch_ops = {
	.setup = deferred_setup,
	.teardown = epoch_teardown,
	.enter = epoch_enter,
	.leave = epoch_leave,
	.alloc = deferred_alloc,
	.free = deferred_free,
	.retire = epoch_retire,
	.read_lock = epoch_read_lock,
	.read_unlock = epoch_read_unlock,
};

const struct bench_peer peer_ck_epoch = {.object = &ck_epoch_ops, .version = malloc_version};
