/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * DPDK's rte_mempool, without huge pages and without devices. Each thread is registered as
 * an lcore, because only those have a cache, which is as large as it may be.
 */
#define _GNU_SOURCE
#include "peer_generic.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_mempool.h>
#include <rte_version.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

static void *pool_setup(const struct bench_env *env)
{
	/* --in-memory excludes --no-huge in this version; --no-shconf is the rest of it. */
	static char *argv[] = {
		"sheaf-bench",   "--no-huge",    "--no-shconf", "--no-pci", "--no-telemetry",
		"--log-level=1", "--lcores=0@0", "-m",          "512",      NULL};
	/* Each cache can hold half as much again as its size, and gives up nothing. */
	const unsigned cache = RTE_MEMPOOL_CACHE_MAX_SIZE;
	const unsigned threads = (unsigned)env->param[PARAM_THREADS] + 1;
	struct rte_mempool *pool;
	cpu_set_t cpus;
	int err;

	/* It binds this thread to a CPU, and so all that this thread creates. */
	sched_getaffinity(0, sizeof(cpus), &cpus);
	err = rte_eal_init((int)(sizeof(argv) / sizeof(argv[0])) - 1, argv);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	if (err < 0) {
		fprintf(stderr, "rte_eal_init: %s\n", rte_strerror(rte_errno));
		return NULL;
	}
	pool = rte_mempool_create("bench", (unsigned)env->live + threads * cache * 2,
				  (unsigned)env->param[PARAM_SIZE], cache, 0, NULL, NULL, NULL,
				  NULL, SOCKET_ID_ANY, 0);
	if (!pool)
		fprintf(stderr, "rte_mempool_create: %s\n", rte_strerror(rte_errno));
	return pool;
}

static void pool_teardown(void *ctx)
{
	rte_mempool_free(ctx);
	rte_eal_cleanup();
}

static void pool_enter(void *ctx, unsigned thread)
{
	(void)ctx;
	if (rte_thread_register() < 0) {
		fprintf(stderr, "rte_thread_register, thread %u: %s\n", thread,
			rte_strerror(rte_errno));
		exit(1);
	}
}

static void pool_leave(void *ctx)
{
	(void)ctx;
	rte_thread_unregister();
}

static void *pool_alloc(void *ctx)
{
	void *object;

	return rte_mempool_get(ctx, &object) == 0 ? object : NULL;
}

static void pool_free(void *ctx, void *object)
{
	rte_mempool_put(ctx, object);
}

static bool pool_alloc_bulk(void *ctx, size_t n, void **objects)
{
	return rte_mempool_get_bulk(ctx, objects, (unsigned)n) == 0;
}

static void pool_free_bulk(void *ctx, size_t n, void **objects)
{
	rte_mempool_put_bulk(ctx, objects, (unsigned)n);
}

static SECTION_BEGIN_BULK(pool_section_begin, pool_alloc_bulk) static SECTION_ALLOC_BULK(
	pool_section_alloc) static SECTION_END_BULK(pool_section_end, pool_free_bulk)

	static const struct object_ops pool_ops = {
		.setup = pool_setup,
		.teardown = pool_teardown,
		.enter = pool_enter,
		.leave = pool_leave,
		.alloc = pool_alloc,
		.free = pool_free,
		.alloc_bulk = pool_alloc_bulk,
		.free_bulk = pool_free_bulk,
		.section_begin = pool_section_begin,
		.section_alloc = pool_section_alloc,
		.section_end = pool_section_end,
};

static void pool_version(char *text, size_t bytes)
{
	snprintf(text, bytes, "%s", rte_version());
}

extern const struct bench_peer bench_peer;
const struct bench_peer bench_peer = {.object = &pool_ops, .version = pool_version};
