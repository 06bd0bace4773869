/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Who wants to know, and what he is told; the map is in watch.h. */
#include "watch.h"

#include "base/attr.h"
#include "base/memory.h"
#include "debug_state.h"

#include <errno.h>

/* In builds for checkers the fast paths tell. */
static bool checker_runs(void)
{
	return !ANNOTATE_RED_ZONE && memcheck_may_run();
}

static bool is_wanted(const struct sheaf_debug_attr *attr)
{
	return attr->flags || attr->quarantine || attr->sample || attr->fail;
}

int watch_create(struct sheaf_cache *cache, const struct sheaf_cache_attr *a)
{
	struct sheaf_debug_attr attr;
	bool checker, none = false;

	if (cache->cross_of) {
		cache->block_size = cache->cross_of->block_size;
		return 0;
	}
	if (!a->debug)
		attr = debug_words(cache->name, &none);
	else if (attr_copy(&attr, sizeof(attr), a->debug, a->debug->size, sizeof(attr)))
		return -EINVAL;
	/* Debug mode tells checkers what it knows where they are built in. Who counts instructions under Valgrind says
	 * none. */
	checker = checker_runs() && !a->debug && !is_wanted(&attr) && !none;
	if (!checker && !is_wanted(&attr))
		return 0;
	cache->watch = memory_zalloc(sizeof(void *), sizeof(*cache->watch));
	if (!cache->watch)
		return -ENOMEM;
	cache->watch->checker = checker;
	if (!checker)
		return debug_create(&cache->watch->debug, cache, a, &attr);
	cache->block_size += RED_ZONE;
	memcheck_pool_begin(cache, cache->ctor != NULL);
	return 0;
}

void watch_numbered(struct sheaf_cache *cache)
{
	if (watch_writes(cache))
		debug_numbered(cache->watch->debug);
}

/* Also after watch_create() has failed. */
void watch_destroy(struct sheaf_cache *cache)
{
	if (watch_writes(cache))
		debug_destroy(cache->watch->debug);
	else if (cache->watch && cache->watch->checker)
		memcheck_pool_end(cache);
	memory_free(cache->watch);
}

void *watch_out(struct sheaf_cache *cache, void *block, const void *caller, bool nowait)
{
	if (cache->watch->debug)
		return debug_out(cache->watch->debug, block, caller, nowait);
	if (!cache->stable)
		memcheck_out(cache, block, cache->object_size);
	return block;
}

void *watch_in(struct sheaf_cache *cache, void *object, const void *caller, bool nowait)
{
	if (cache->watch->debug)
		return debug_in(cache->watch->debug, object, caller, nowait);
	if (!cache->stable)
		memcheck_in(cache, object);
	return object;
}

void *watch_retired(struct sheaf_cache *cache, void *object, const void *caller, bool nowait)
{
	if (cache->watch->debug)
		return debug_retired(cache->watch->debug, object, caller, nowait);
	memcheck_touch(object);
	return object;
}

void watch_ripe(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait)
{
	uint32_t i;

	if (cache->watch->debug) {
		debug_ripe(cache->watch->debug, sheaf, nowait);
		return;
	}
	for (i = 0; i < sheaf->size && !cache->stable; i++)
		memcheck_in(cache, sheaf->objects[i]);
}

void watch_show(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	if (cache->watch->debug)
		debug_show(cache->watch->debug, sheaf);
}

void watch_hide(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	if (cache->watch->debug)
		debug_hide(cache->watch->debug, sheaf);
}

/* Blocks of our own slabs have the red zone that a checker found at run time wants, others have not. */
static bool has_zone(const struct sheaf_cache *cache)
{
	return cache->block_size != cache->object_size;
}

/* What has been with our slabs before is shut, by watch_gone(). The constructor has the object, and not the zone. */
static void open_to_make(const struct sheaf_cache *cache, size_t n, void *const *blocks)
{
	size_t zone = cache->block_size - cache->object_size, i;

	for (i = 0; i < n; i++) {
		memcheck_open(blocks[i], cache->object_size);
		memcheck_shut((char *)blocks[i] + cache->object_size, zone);
	}
}

size_t watch_came(struct sheaf_cache *cache, size_t n, void **blocks)
{
	size_t i;

	if (cache->watch->debug)
		return debug_came(cache->watch->debug, n, blocks);
	if (has_zone(cache) && cache->ctor)
		open_to_make(cache, n, blocks);
	if (cache->ctor && n)
		cache->ctor(cache->ctor_arg, n, blocks);
	for (i = 0; i < n && !cache->stable; i++)
		memcheck_shut(blocks[i], cache->block_size);
	return n;
}

void watch_gone(struct sheaf_cache *cache, size_t n, void *const *blocks)
{
	size_t i;

	if (cache->watch->debug) {
		debug_gone(cache->watch->debug, n, blocks);
		return;
	}
	/* Our own slabs do not touch them: shut until they come again. */
	if (has_zone(cache))
		return;
	for (i = 0; i < n; i++)
		memcheck_open(blocks[i], cache->block_size);
}

size_t watch_release(struct sheaf_cache *cache, size_t n, void **blocks)
{
	return cache->watch->debug ? debug_release(cache->watch->debug, n, blocks) : 0;
}

size_t watch_drain(struct sheaf_cache *cache)
{
	void *blocks[64];
	size_t all = 0, n;

	while ((n = watch_release(cache, sizeof(blocks) / sizeof(*blocks), blocks)) != 0) {
		backend_put(cache, n, blocks);
		all += n;
	}
	return all;
}

bool watch_refuses(struct sheaf_cache *cache, size_t *part)
{
	return cache->watch->debug && debug_refuses(cache->watch->debug, part);
}

static void report_sheaf(struct debug *d, enum sheaf_debug_kind kind, const struct sheaf *sheaf,
			 const void *caller, bool nowait)
{
	struct sheaf_debug_trace here;
	struct finding finding = {
		.kind = kind, .object = sheaf, .here = &here, .count = 1, .nowait = nowait};

	if (kind == SHEAF_DEBUG_WRONG_SHEAF)
		finding.owner = owner_find(sheaf->node);
	trace_here(d, &here, caller);
	debug_report(d, &finding);
}

bool watch_sheaf_wrong(struct sheaf_cache *cache, enum sheaf_debug_kind kind,
		       const struct sheaf *sheaf, const void *caller, bool nowait)
{
	if (!cache->watch->debug)
		return false;
	report_sheaf(cache->watch->debug, kind, sheaf, caller, nowait);
	return true;
}

/* Nobody chains a lent sheaf, so link says if somebody is at it. */
bool watch_sheaf_busy(struct sheaf_cache *cache, struct sheaf *sheaf, const void *caller,
		      bool nowait)
{
	struct sheaf *none = NULL;

	/* acquire: partner watch_sheaf_leave() */
	if (!cache->watch->debug || cas_acquire(&sheaf->link, &none, sheaf))
		return false;
	report_sheaf(cache->watch->debug, SHEAF_DEBUG_SHARED_SHEAF, sheaf, caller, nowait);
	return true;
}

void watch_sheaf_leave(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	/* Partner: watch_sheaf_busy(), of whoever has the sheaf next. */
	if (cache->watch->debug)
		store_release(&sheaf->link, NULL);
}

bool watch_strict(const struct sheaf_cache *cache)
{
	return watch_writes(cache) && (cache->watch->debug->flags & SHEAF_DEBUG_STRICT);
}

bool watch_overuse(struct sheaf_cache *cache, const struct sheaf *sheaf, const void *caller)
{
	if (!watch_writes(cache))
		return false;
	report_sheaf(cache->watch->debug, SHEAF_DEBUG_OVERUSE, sheaf, caller, true);
	return true;
}

void watch_leaks(struct sheaf_cache *cache, uint64_t loans)
{
	if (cache->watch->debug)
		debug_leaks(cache->watch->debug, loans);
}
