/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Who wants to know, and what he is told; the map is in watch.h. */
#define _GNU_SOURCE
#include "watch.h"

#include "base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#if defined(HAVE_VALGRIND) && !defined(SHEAF_MEMCHECK)
#include <valgrind/valgrind.h>
#define CHECKER_RUNS (RUNNING_ON_VALGRIND != 0)
#else
/* None, or it is told by the fast paths themselves. */
#define CHECKER_RUNS false
#endif

struct watch {
	/* A checker that was found at run time. */
	bool checker;
};

/* Does SHEAF_DEBUG say that nothing is to be watched? For who counts instructions under Valgrind. */
static bool asked_not_to(void)
{
	const char *asked = secure_getenv("SHEAF_DEBUG");

	return asked && !strcmp(asked, "none");
}

int watch_create(struct sheaf_cache *cache)
{
	if (!CHECKER_RUNS || cache->cross_of || asked_not_to())
		return 0;
	cache->watch = memory_zalloc(sizeof(void *), sizeof(*cache->watch));
	if (!cache->watch)
		return -ENOMEM;
	cache->watch->checker = true;
	return 0;
}

void watch_destroy(struct sheaf_cache *cache)
{
	memory_free(cache->watch);
}

void *watch_out(struct sheaf_cache *cache, void *block, const void *caller, bool nowait)
{
	(void)caller;
	(void)nowait;
	object_out(cache, block);
	return block;
}

void *watch_in(struct sheaf_cache *cache, void *object, const void *caller, bool nowait)
{
	(void)caller;
	(void)nowait;
	object_in(cache, object);
	return object;
}

void *watch_retired(struct sheaf_cache *cache, void *object, const void *caller, bool nowait)
{
	(void)cache;
	(void)caller;
	(void)nowait;
	return object;
}

void watch_ripe(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	blocks_in(cache, sheaf->size, sheaf->objects);
}

size_t watch_came(struct sheaf_cache *cache, size_t n, void **blocks)
{
	if (cache->ctor && n)
		cache->ctor(cache->ctor_arg, n, blocks);
	blocks_in(cache, n, blocks);
	return n;
}

void watch_gone(struct sheaf_cache *cache, size_t n, void *const *blocks)
{
	blocks_out(cache, n, blocks);
}
