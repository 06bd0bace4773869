/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Sheaves lent to callers with a guaranteed number of objects in them.
 *
 * While a sheaf is lent, its head says how: mark the kind, stamp how many were asked for
 * last, the halves of ticket its size right after that (top) and the size below which a
 * strict one gives nothing more (floor), and node whose it is. What was used since is top - size.
 *
 *	objects  |<---- floor ---->|<---- asked ---->|
 *	         0               floor              top
 *
 * The borrower owns the sheaf alone, so nothing of it needs an order. Debug mode, which looks if that is so, has
 * link for it: who is at the sheaf sets it, and clears it when he leaves; so no other one gives the
 * sheaf to a slot or barn, which chain by it. A call that finds somebody there reports and does nothing. The
 * mark of the slow path outlives the loan, so that who uses a returned sheaf is found as well.
 *
 * Each loan and refill adds one to a bucket of what was asked, each return and refill one to a bucket of
 * what was used: from these come the numbers of loans, and of those that are out. What was used, and the
 * refills, are counted with release, to the acquire of cache_count_loans(): who sees the end of a loan sees its beginning.
 *
 * A lent sheaf comes from the slot (its spare), else from the barn, else from memory, and is
 * topped up by the bulk path. Above the capacity of the cache it is an oversize one, whose
 * objects go back one by one and whose memory goes back to the system.
 */
#include "cache_state.h"

#include "base/probe.h"
#include "base/report.h"
#include "watch.h"

#include <errno.h>

#define PREFILL_MAX (UINT32_C(1) << 20)

static uint32_t lent_top(const struct sheaf *sheaf)
{
	return (uint32_t)sheaf->ticket;
}

static uint32_t lent_floor(const struct sheaf *sheaf)
{
	return (uint32_t)(sheaf->ticket >> 32);
}

/* The sheaf was filled for n objects. */
static void lent_for(struct sheaf *sheaf, uint32_t n)
{
	sheaf->stamp = n;
	sheaf->ticket = (uint64_t)(sheaf->size - n) << 32 | sheaf->size;
}

/* Two of 65,537 caches have the same one, and debug mode does not tell these apart. */
static uint16_t lender(const struct sheaf_cache *cache)
{
	return (uint16_t)cache->id;
}

/* For who watches: is the sheaf lent no more, or by another cache? True after a report. */
static bool is_wrong(struct sheaf_cache *cache, const struct sheaf *sheaf, const void *caller,
		     bool nowait)
{
	if (!(sheaf->mark & MARK_LENT))
		return watch_sheaf_wrong(cache, SHEAF_DEBUG_RETURNED_SHEAF, sheaf, caller, nowait);
	return sheaf->node != lender(cache) &&
	       watch_sheaf_wrong(cache, SHEAF_DEBUG_WRONG_SHEAF, sheaf, caller, nowait);
}

/* Is somebody else at it? True after a report; else leave it. Who has waited for nobody may find that it was returned
 * since is_wrong(). */
static bool is_busy(struct sheaf_cache *cache, struct sheaf *sheaf, const void *caller, bool nowait)
{
	if (watch_sheaf_busy(cache, sheaf, caller, nowait))
		return true;
	if (sheaf->mark & MARK_LENT)
		return false;
	watch_sheaf_leave(cache, sheaf);
	return watch_sheaf_wrong(cache, SHEAF_DEBUG_RETURNED_SHEAF, sheaf, caller, nowait);
}

/* May the caller use it? False after a report; else leave it. */
static bool enter(struct sheaf_cache *cache, struct sheaf *sheaf, const void *caller, bool nowait)
{
	return !is_wrong(cache, sheaf, caller, nowait) && !is_busy(cache, sheaf, caller, nowait);
}

static unsigned bucket_of(uint64_t value)
{
	unsigned bucket = value ? 64 - (unsigned)__builtin_clzll(value) : 0;

	return bucket < SHEAF_CACHE_PREFILLS ? bucket : SHEAF_CACHE_PREFILLS - 1;
}

static void count_asked(struct sheaf_cache *cache, uint32_t n)
{
	fetch_add_relaxed(&cache->prefill_asked[bucket_of(n)], 1);
}

static void count_used(struct sheaf_cache *cache, uint32_t n)
{
	/* release: partner cache_count_loans() */
	fetch_add_release(&cache->prefill_used[bucket_of(n)], 1);
}

/* A private sheaf with room for n from slot, barn or memory, with whatever it holds. */
static struct sheaf *take_base(struct sheaf_cache *cache, uint32_t n, bool nowait)
{
	struct sheaf_barn *barn = &cache_node(cache)->barn;
	struct sheaf *sheaf = cache_take_spare(cache, nowait);

	if (!sheaf) {
		fetch_add_relaxed(&slot_trips(cache)->barn_alloc, 1);
		sheaf = sheaf_barn_take_full(barn);
		PROBE(alloc_trip, PROBE_CACHE(cache), sheaf);
	}
	if (!sheaf)
		sheaf = sheaf_barn_take_empty(barn);
	if (sheaf && sheaf->capacity < n) {
		cache_put_sheaf(cache, sheaf, nowait);
		sheaf = NULL;
	}
	if (!sheaf && !nowait) {
		/* It may be less by now than when we were called. */
		uint32_t capacity = cache_capacity(cache);

		sheaf = sheaf_new(capacity > n ? capacity : n);
	}
	return sheaf;
}

/* Tops up to n objects; false if memory ran out (what came stays in). */
static bool top_up(struct sheaf_cache *cache, struct sheaf *sheaf, uint32_t n, unsigned flags)
{
	if (sheaf->size < n)
		sheaf->size += (uint32_t)cache_get(cache, flags & SHEAF_NOWAIT, n - sheaf->size,
						   &sheaf->objects[sheaf->size]);
	return sheaf->size >= n;
}

/* Ends a loan without counting it: objects and memory go where they belong. */
static void take_in(struct sheaf_cache *cache, struct sheaf *sheaf, bool nowait)
{
	bool oversize = sheaf->mark & MARK_OVERSIZE;

	sheaf->mark &= MARK_MAPPED | (cache->watch ? MARK_SLOW : 0);
	if (unlikely(cache->watch))
		watch_sheaf_leave(cache, sheaf);
	if (!oversize) {
		cache_put_sheaf(cache, sheaf, nowait);
		return;
	}
	if (sheaf->size)
		cache_put(cache, sheaf->size, sheaf->objects);
	sheaf_delete(sheaf);
}

static struct sheaf *borrow(struct sheaf_cache *cache, uint32_t n, unsigned flags)
{
	bool nowait = flags & SHEAF_NOWAIT;
	bool oversize = n > cache_capacity(cache);
	struct sheaf *sheaf;

	if (!oversize)
		sheaf = take_base(cache, n, nowait);
	else
		sheaf = nowait ? NULL : sheaf_new(n);
	if (!sheaf)
		return NULL;
	if (oversize)
		sheaf->mark |= MARK_OVERSIZE;
	if (!top_up(cache, sheaf, n, flags) ||
	    ((flags & SHEAF_LOCAL) && !cache_make_local(cache, sheaf))) {
		take_in(cache, sheaf, nowait);
		return NULL;
	}
	return sheaf;
}

struct sheaf *sheaf_cache_prefill(struct sheaf_cache *cache, uint32_t n, unsigned flags)
{
	struct sheaf *sheaf;

	if (n > PREFILL_MAX || (unlikely(cache->watch) && watch_refuses(cache, NULL)))
		return NULL;
	sheaf = borrow(cache, n, flags);
	PROBE(prefill, PROBE_CACHE(cache), n, sheaf);
	if (!sheaf)
		return NULL;
	if (unlikely(cache->watch)) {
		sheaf->mark |= MARK_SLOW;
		watch_sheaf_leave(cache, sheaf);
		flags |= watch_strict(cache) ? SHEAF_STRICT : 0;
	}
	sheaf->mark |= MARK_LENT | (flags & SHEAF_STRICT ? MARK_STRICT | MARK_SLOW : 0);
	sheaf->node = lender(cache);
	lent_for(sheaf, n);
	fetch_add_relaxed(&cache->lent_objects, sheaf->size);
	if (sheaf->mark & MARK_OVERSIZE)
		fetch_add_relaxed(&cache->prefills_oversize, 1);
	count_asked(cache, n);
	return sheaf;
}

static void overused(struct sheaf_cache *cache, const struct sheaf *sheaf, const void *caller)
{
	PROBE(overuse, PROBE_CACHE(cache), sheaf->stamp, caller);
	if (!cache->overuse && watch_overuse(cache, sheaf, caller))
		return;
	if (!cache->overuse)
		fatal("cache %s: more than the %u objects of a strict prefilled sheaf used, at %p",
		      cache->name, sheaf->stamp, caller);
	cache->overuse(cache->overuse_arg, cache, sheaf->stamp, caller);
}

/* The object is shown to who watches while nobody else may be at the sheaf. */
static void *alloc_from_watched(struct sheaf_cache *cache, struct sheaf *sheaf, const void *caller)
{
	void *object;

	if (is_busy(cache, sheaf, caller, true))
		return NULL;
	object = sheaf_pop(sheaf);
	if (object)
		object = watch_out(cache, object, caller, true);
	watch_sheaf_leave(cache, sheaf);
	return object;
}

/* Out of line, so that what is lent without strictness has no call on its way. */
static __attribute__((noinline)) void *alloc_from_slow(struct sheaf_cache *cache, struct sheaf *sheaf,
						     const void *caller)
{
	void *object;

	if (unlikely(cache->watch) && is_wrong(cache, sheaf, caller, true))
		return NULL;
	if ((sheaf->mark & MARK_STRICT) && sheaf->size <= lent_floor(sheaf)) {
		overused(cache, sheaf, caller);
		return NULL;
	}
	if (unlikely(cache->watch))
		return alloc_from_watched(cache, sheaf, caller);
	object = sheaf_pop(sheaf);
	object_out(cache, object);
	return object;
}

void *sheaf_cache_alloc_from(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	void *object;

	if (unlikely(sheaf->mark & MARK_SLOW))
		return alloc_from_slow(cache, sheaf, __builtin_return_address(0));
	object = sheaf_pop(sheaf);
	if (likely(object))
		object_out(cache, object);
	return object;
}

/* Moves the loan to a sheaf with room for n. */
static int enlarge(struct sheaf **sheaf, uint32_t n)
{
	struct sheaf *old = *sheaf, *larger = sheaf_new(n);

	if (!larger)
		return -ENOMEM;
	sheaf_move(larger, old, old->size);
	larger->mark = (old->mark & ~MARK_MAPPED) | MARK_OVERSIZE;
	larger->stamp = old->stamp;
	larger->ticket = old->ticket;
	larger->node = old->node;
	sheaf_delete(old);
	*sheaf = larger;
	return 0;
}

static int refill(struct sheaf_cache *cache, struct sheaf **sheaf, uint32_t n, unsigned flags)
{
	uint32_t top, size;

	if (n > (*sheaf)->capacity && ((flags & SHEAF_NOWAIT) || enlarge(sheaf, n)))
		return -ENOMEM;
	top = lent_top(*sheaf);
	size = (*sheaf)->size;
	if (!top_up(cache, *sheaf, n, flags)) {
		/* Still lent for what was asked before: top and floor rise by what came. */
		size = (*sheaf)->size - size;
		(*sheaf)->ticket += (uint64_t)size << 32 | size;
		fetch_add_relaxed(&cache->lent_objects, size);
		return -ENOMEM;
	}
	PROBE(prefill_refill, PROBE_CACHE(cache), (*sheaf)->stamp, top - size, n);
	count_asked(cache, n);
	count_used(cache, top - size);
	/* release: as count_used() */
	fetch_add_release(&cache->refills, 1);
	lent_for(*sheaf, n);
	/* Modulo 2^64: it may have become less. */
	fetch_add_relaxed(&cache->lent_objects, (uint64_t)lent_top(*sheaf) - top);
	return 0;
}

int sheaf_cache_refill(struct sheaf_cache *cache, struct sheaf **sheaf, uint32_t n, unsigned flags)
{
	int err = -ENOMEM;

	if (n > PREFILL_MAX)
		return -EINVAL;
	if (likely(!cache->watch))
		return refill(cache, sheaf, n, flags);
	if (!enter(cache, *sheaf, __builtin_return_address(0), flags & SHEAF_NOWAIT))
		return -ENOMEM;
	if (!watch_refuses(cache, NULL))
		err = refill(cache, sheaf, n, flags);
	watch_sheaf_leave(cache, *sheaf);
	return err;
}

void sheaf_cache_return(struct sheaf_cache *cache, struct sheaf *sheaf)
{
	if (!sheaf)
		return;
	/* Who is at it clears link when he leaves, so nobody may chain it: it stays lent. */
	if (unlikely(cache->watch) && !enter(cache, sheaf, __builtin_return_address(0), false))
		return;
	if (!(sheaf->mark & MARK_LENT))
		fatal("cache %s: returned a sheaf that is not lent", cache->name);
	PROBE(prefill_return, PROBE_CACHE(cache), sheaf->stamp, lent_top(sheaf) - sheaf->size);
	count_used(cache, lent_top(sheaf) - sheaf->size);
	fetch_sub_relaxed(&cache->lent_objects, lent_top(sheaf));
	take_in(cache, sheaf, false);
}
