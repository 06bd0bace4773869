/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that the handlers of a level are there before its first user (FORK_EARLY): while a fork is
 * under way, no thread gets to where it holds what a child would find held, be it the first of the
 * process to come there. The handler here is registered before the library's, so it is called after them.
 */
#include "base/atomic.h"
#include "common.h"
#include "slab_registry.h"

#include <pthread.h>
#include <sheaf/cache.h>
#include <sheaf/gp.h>
#include <sheaf/slab.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <urcu/flavor.h>

#define FIRST_TABLE (16 * sizeof(void *))

static void *(*first)(void *arg);
static pthread_t thread;
static uint32_t inside, forked;
static bool during;

/* Who is here holds it. */
static void reached(void)
{
	if (exchange_acq_rel(&inside, 1))
		return;
	while (!load_acquire(&forked))
		test_sleep_ms(1);
}

static void before(void)
{
	if (!first)
		return;
	if (pthread_create(&thread, NULL, first, NULL))
		abort();
	for (unsigned ms = 0; ms < 200 && !load_acquire(&inside); ms++)
		test_sleep_ms(1);
	during = load_acquire(&inside);
}

__attribute__((constructor(101))) static void earlier_than_the_library(void)
{
	if (pthread_atfork(before, NULL, NULL))
		abort();
}

void *__real_memory_zalloc(size_t align, size_t bytes);
void *__wrap_memory_zalloc(size_t align, size_t bytes);
void *__real_memory_map(size_t align, size_t bytes);
void *__wrap_memory_map(size_t align, size_t bytes);

/* The table of caches, under the registry's locks. */
void *__wrap_memory_zalloc(size_t align, size_t bytes)
{
	if (bytes == FIRST_TABLE)
		reached();
	return __real_memory_zalloc(align, bytes);
}

/* A leaf of the map of regions, under the lock of the slabs. */
void *__wrap_memory_map(size_t align, size_t bytes)
{
	if (bytes == LEAF_SLOTS * sizeof(struct region *))
		reached();
	return __real_memory_map(align, bytes);
}

static void *first_cache(void *arg)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = 64};
	struct sheaf_cache *cache;

	/* Slabs are another level's. */
	if (!sheaf_backend_malloc(&attr.backend, attr.object_size, 0) &&
	    !sheaf_cache_create(&cache, &attr))
		sheaf_cache_destroy(cache, NULL);
	return arg;
}

static void *first_slab(void *arg)
{
	const struct sheaf_slab_attr attr = {.size = sizeof(attr), .object_size = 64};
	struct sheaf_backend backend;
	struct sheaf_slab *slab;
	void *object;

	if (sheaf_slab_create(&slab, &attr))
		return arg;
	backend = sheaf_slab_backend(slab);
	if (backend.ops->alloc_bulk(backend.ctx, -1, 0, 1, &object) == 1)
		backend.ops->free_bulk(backend.ctx, 1, &object);
	backend.ops->destroy(backend.ctx);
	return arg;
}

static struct rcu_head *called_head;
static void (*called_fn)(struct rcu_head *head);

static void call(struct rcu_head *head, void (*fn)(struct rcu_head *head))
{
	reached();
	called_head = head;
	called_fn = fn;
}

static int nothing_ongoing(void)
{
	return 0;
}

static void *call_back(void *arg)
{
	called_fn(called_head);
	return arg;
}

/* In liburcu; whose thread calls back is known as one that only does that. */
static void *first_call(void *arg)
{
	static const struct rcu_flavor_struct flavor = {.update_call_rcu = call,
							.read_ongoing = nothing_ongoing};
	struct sheaf_gp_call_rcu source;
	pthread_t called_by;

	if (sheaf_gp_call_rcu_init(&source, &flavor))
		return arg;
	sheaf_gp_ticket(&source.gp);
	if (pthread_create(&called_by, NULL, call_back, NULL) || pthread_join(called_by, NULL))
		abort();
	sheaf_gp_call_rcu_fini(&source);
	return arg;
}

static void *(*const firsts[])(void *arg) = {first_cache, first_slab, first_call};

START_TEST(nobody_is_inside_during_a_fork)
{
	pid_t child;
	int status;

	first = firsts[_i];
	child = fork();
	if (child == 0)
		_exit(0);
	store_release(&forked, 1);
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(!during);
	/* It would have been seen. */
	ck_assert_uint_eq(inside, 1);
	first = NULL;
	inside = forked = 0;
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("fork_first");

	tcase_add_loop_test(tc, nobody_is_inside_during_a_fork, 0, 3);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
