/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What an address is. Two questions: which object of which cache, and where that object is.
 *
 * The first is answered by the book of debug mode (debug_object.c), or by the map of slab regions;
 * both are asked without reading near the address. What either says of the owner is only compared with
 * caches that are pinned, so an answer about a cache that ends meanwhile is none. A backend of
 * another kind cannot be asked: there only what is in a sheaf is found, by range.
 *
 * The second is answered by looking through all sheaves that the cache has: those in slots, which
 * are frozen for it (slots_freeze()), in barns and recyclers, each of which lets its visitor be the owner
 * for a moment. What signal handlers left aside is taken in before, as by any call, so it is in
 * these places too. An object that is nowhere is in use, unless the backend or debug mode knows better:
 * objects in lent sheaves and in the hands of calls are in no list.
 *
 *  D1  Slots first, then barns, recyclers, quarantine: the way down, with slots frozen. An object on
 *      this way is met twice rather than never, and the first answer counts. Against it go ripe
 *      sheaves that the source's thread puts into barns: those may be missed, and
 *      count as in use.
 *  D2  Objects of slots of CPUs may be popped and pushed meanwhile: the answer was right
 *      at one moment.
 */
#include "barn_visit.h"
#include "base/attr.h"
#include "cache_state.h"
#include "debug_state.h"
#include "recycler_fork.h"
#include "slab_locate.h"
#include "watch.h"

#include <string.h>

/* Which block is looked for: the one that begins less than span bytes before at. */
struct search {
	struct sheaf_cache *cache;
	uintptr_t at;
	size_t span;
	/* What is being looked at now. */
	enum sheaf_place place;
	uint32_t number;
	/* The answer. */
	struct sheaf_description *d;
	void *block;
};

static void look_into(struct search *s, enum sheaf_place place, uint32_t number,
		      const struct sheaf *sheaf)
{
	uint32_t n = load_relaxed(&sheaf->size), i;

	for (i = 0; i < n && !s->block; i++) {
		void *block = load_relaxed(&sheaf->objects[i]);

		if (s->at - (uintptr_t)block >= s->span)
			continue;
		s->block = block;
		s->d->place = place;
		s->d->number = number;
	}
}

static void look_into_slot(void *arg, uint32_t number, unsigned part, bool spare,
			   const struct sheaf *sheaf)
{
	enum sheaf_place place = spare ? SHEAF_PLACE_SPARE : SHEAF_PLACE_MAIN;

	look_into(arg, part == PART_RCU ? SHEAF_PLACE_RCU : place, number, sheaf);
}

static void look_into_cross(void *arg, uint32_t number, unsigned part, bool spare,
			    const struct sheaf *sheaf)
{
	(void)part;
	(void)spare;
	look_into(arg, SHEAF_PLACE_HOMEWARD, number, sheaf);
}

static void look_into_barn(void *arg, const struct sheaf *sheaf)
{
	struct search *s = arg;

	look_into(s, s->place, s->number, sheaf);
}

static void look_into_recycler(void *arg, const struct sheaf *sheaf)
{
	struct search *s = arg;
	bool ripe = sheaf_gp_elapsed(s->cache->gp, sheaf->ticket);

	look_into(s, ripe ? SHEAF_PLACE_RIPE : SHEAF_PLACE_RIPENING, s->number, sheaf);
}

static void look_below(struct search *s)
{
	struct sheaf_cache *cache = s->cache;
	uint32_t i;

	s->place = SHEAF_PLACE_BARN;
	for (i = 0; i < cache->nodes && !s->block; i++) {
		s->number = i;
		barn_visit(&cache->node[i].barn, look_into_barn, s);
	}
	for (i = 0; cache->gp && i < cache->nodes && !s->block; i++) {
		s->number = i;
		recycler_visit(&cache->node[i].recycler, look_into_recycler, s);
	}
	if (cache->cross && !s->block) {
		s->place = SHEAF_PLACE_HOMEWARD;
		s->number = 0;
		barn_visit(&cache->cross->node[0].barn, look_into_barn, s);
	}
}

/* True if it is in a sheaf: block, place and number are set. */
static bool search(struct search *s)
{
	struct sheaf_cache *cache = s->cache, *cross = cache->cross;
	struct sheaf_cache_stats loans;
	uint32_t i;

	for (i = 0; i < cache->nodes; i++)
		cache_unspill_slow(cache, &cache->node[i], false);
	cache_freeze(cache);
	slots_each(cache, look_into_slot, s);
	if (cross && !s->block)
		slots_each(cross, look_into_cross, s);
	if (!s->block)
		look_below(s);
	cache_count_loans(cache, &loans);
	s->d->lent_sheaves = loans.lent_sheaves;
	cache_thaw(cache);
	return s->block;
}

/* A block that is in no sheaf, as debug mode has it. */
static enum sheaf_place place_in_book(const struct debug *d, const struct debug_object *o,
				      const void *block)
{
	if (debug_holds_back(d, block))
		return SHEAF_PLACE_QUARANTINE;
	switch (object_state(o)) {
	case OBJECT_GONE:
		return SHEAF_PLACE_BACKEND;
	case OBJECT_FREE:
	case OBJECT_RETIRED:
		return SHEAF_PLACE_LENT;
	default:
		return SHEAF_PLACE_IN_USE;
	}
}

static bool describe_watched(struct search *s, const struct debug_object *o)
{
	struct debug *debug = s->cache->watch->debug;
	void *block;

	if (!o || object_owner(o) != debug->owner)
		return false;
	block = debug_block(debug, o);
	s->at = (uintptr_t)block;
	s->span = 1;
	if (!search(s))
		s->d->place = place_in_book(debug, o, block);
	s->d->object = o->object;
	trace_copy(&s->d->allocated, &o->got);
	trace_copy(&s->d->freed, &o->gave);
	return true;
}

static bool describe_slab(struct search *s, const struct slab_found *found)
{
	s->d->object = found->object;
	if (!found->object) {
		s->d->place = SHEAF_PLACE_BACKEND;
		return true;
	}
	s->at = (uintptr_t)found->object;
	s->span = 1;
	if (!search(s))
		s->d->place = found->out ? SHEAF_PLACE_IN_USE : SHEAF_PLACE_BACKEND;
	/* What the backend calls an object is a block. */
	if (watch_writes(s->cache))
		s->d->object = (char *)found->object + s->cache->watch->debug->front;
	return true;
}

static bool describe_others(struct search *s, const void *address)
{
	s->at = (uintptr_t)address;
	s->span = s->cache->object_size;
	if (!search(s))
		return false;
	s->d->object = s->block;
	return true;
}

/* Is it of this cache, which is pinned? */
static bool describe_in(struct search *s, const void *address, const struct debug_object *o,
			const struct slab_found *found)
{
	struct sheaf_slab *slab = slab_of(&s->cache->backend);

	if (watch_writes(s->cache) && describe_watched(s, o))
		return true;
	if (slab)
		return slab == found->owner && describe_slab(s, found);
	return !found->owner && !watch_writes(s->cache) && describe_others(s, address);
}

bool sheaf_describe(const void *address, struct sheaf_description *description, size_t size)
{
	struct sheaf_description d = {.place = SHEAF_PLACE_NONE};
	const struct debug_object *o = object_at(address);
	struct slab_found found;
	struct sheaf_cache *cache;
	uint32_t next = 0;
	bool known = false;

	(void)slab_locate(address, &found);
	while (!known && (cache = registry_pin(&next)) != NULL) {
		struct search s = {.cache = cache, .d = &d};

		known = describe_in(&s, address, o, &found);
		if (known) {
			d.cache = cache;
			memcpy(d.name, cache->name, sizeof(d.name));
			d.object_size = cache->object_size;
		}
		registry_unpin(cache);
	}
	if (!known)
		d = (struct sheaf_description){.place = SHEAF_PLACE_NONE};
	else if (d.object)
		d.offset = (const char *)address - (const char *)d.object;
	(void)struct_copy(description, size, &d, sizeof(d));
	return known;
}

const char *sheaf_place_name(enum sheaf_place place)
{
	switch (place) {
	case SHEAF_PLACE_NONE:
		return "of no cache";
	case SHEAF_PLACE_IN_USE:
		return "in use";
	case SHEAF_PLACE_MAIN:
		return "in the main sheaf of a slot";
	case SHEAF_PLACE_SPARE:
		return "in the spare sheaf of a slot";
	case SHEAF_PLACE_RCU:
		return "retired, in the rcu sheaf of a slot";
	case SHEAF_PLACE_HOMEWARD:
		return "on its way to its node";
	case SHEAF_PLACE_BARN:
		return "in a barn";
	case SHEAF_PLACE_RIPENING:
		return "retired, ripening";
	case SHEAF_PLACE_RIPE:
		return "retired and ripe";
	case SHEAF_PLACE_QUARANTINE:
		return "in quarantine";
	case SHEAF_PLACE_LENT:
		return "lent, or on its way";
	case SHEAF_PLACE_BACKEND:
		return "free, with the backend";
	}
	return "?";
}
