/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Sampled objects: each on pages of its own between two that cannot be accessed.
 *
 *	| no access | ......... front | object | back | no access |
 *	                                       ^ less than the alignment
 *
 * Guards are taken in turn, so that a freed one stays out of reach for as long as the others last. A guard is
 * one party's from the compare-and-swap that takes it to the store that gives it back (release to acquire). Its
 * entry in the book, and what a constructor wrote, stay.
 */
#include "base/annotate.h"
#include "base/compiler.h"
#include "base/memory.h"
#include "debug_state.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRONT 64
#define TRIES 4

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

int guards_make(struct debug *d, uint32_t n)
{
	size_t page = page_bytes(), end;

	d->guards = memory_zalloc(sizeof(void *), n * sizeof(*d->guards));
	if (!d->guards)
		return -ENOMEM;
	d->guards_n = n;
	end = (d->size + d->align - 1) & ~(d->align - 1);
	d->guard_bytes = (end + page - 1) & ~(page - 1);
	return 0;
}

void guards_delete(struct debug *d)
{
	uint32_t i;

	for (i = 0; i < d->guards_n; i++) {
		struct debug_guard *guard = &d->guards[i];

		if (guard->state == GUARD_NONE)
			continue;
		/* A checker would remember. */
		annotate_open(guard->pages, d->guard_bytes);
		annotate_unroot(guard->pages, d->guard_bytes);
		memory_unmap(guard->pages - page_bytes(), d->guard_bytes + 2 * page_bytes());
	}
	memory_free(d->guards);
}

/* Pages, entry and contents of a new guard; false if there is no memory. */
static bool guard_make(struct debug *d, struct debug_guard *guard)
{
	size_t page = page_bytes(), end = d->guard_bytes;
	struct debug_object *o = NULL;
	bool taken = false;
	char *pages = memory_map(page, end + 2 * page), *object;
	size_t room;

	if (!pages)
		return false;
	object = pages + page + (end - d->size) / d->align * d->align;
	if (mprotect(pages, page, PROT_NONE) == 0 &&
	    mprotect(pages + page + end, page, PROT_NONE) == 0)
		o = object_take(object, d->owner, &taken);
	if (!taken) {
		memory_unmap(pages, end + 2 * page);
		return false;
	}
	room = (size_t)(object - pages) - page;
	object_begin(d, o, (uint32_t)(room < FRONT ? room : FRONT),
		     (uint32_t)(end - room - d->size));
	store_relaxed(&o->before, page + room);
	store_relaxed(&o->behind, page + end - room - d->size);
	store_relaxed(&o->place, guard);
	guard->pages = pages + page;
	annotate_root(guard->pages, d->guard_bytes);
	guard->object = o;
	zones_fill(d, o);
	if (d->cache->ctor)
		d->cache->ctor(d->cache->ctor_arg, 1, &o->object);
	object_turn(o, d, OBJECT_FREE);
	return true;
}

struct debug_object *guard_take(struct debug *d)
{
	unsigned tries;

	for (tries = 0; tries < TRIES; tries++) {
		struct debug_guard *guard =
			&d->guards[fetch_add_relaxed(&d->guard_next, 1) % d->guards_n];
		uint32_t was = load_relaxed(&guard->state);

		/* acquire: partners below and guard_give(): who had the place before is done with it. */
		if (was == GUARD_USED || !cas_acquire(&guard->state, &was, GUARD_USED))
			continue;
		if (was == GUARD_NONE
			    ? guard_make(d, guard)
			    : mprotect(guard->pages, d->guard_bytes, PROT_READ | PROT_WRITE) == 0)
			return guard->object;
		/* Partner: the CAS above. */
		store_release(&guard->state, was);
		return NULL;
	}
	return NULL;
}

void guard_give(struct debug *d, struct debug_object *o)
{
	int saved = errno;

	/* A kernel that refuses has no room for one more mapping: then it stays out of use. */
	if (mprotect(o->place->pages, d->guard_bytes, PROT_NONE) == 0)
		/* Partner: the CAS in guard_take(). */
		store_release(&o->place->state, GUARD_FREE);
	errno = saved;
}
