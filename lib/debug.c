/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Debug mode: what is done to an object where it changes hands. The map is in debug_state.h.
 *
 *	backend -- came --> FREE -- out --> OUT -- in --> FREE -- quarantine --> sheaves -- gone --> backend
 *	                                     |              ^
 *	                                     +-- RETIRED ---+ ripe
 *
 *	came     entry, red zones, constructor, pattern
 *	out      zones and pattern are looked at; a guarded object in its stead, one in so many
 *	in       whose is it (D2), zones; pattern, quarantine
 *	retired  whose is it, zones; readers may still look, so the object is left as it is
 *	ripe     zones; pattern, quarantine
 *	gone     zones and pattern
 *
 * Guarantees:
 *  G1  A pointer that is not the user's to give back is reported, and neither read nor written at: the book
 *      says so, and the state changes by one compare-and-swap from OUT.
 *  G2  The memory of an object is looked at and written to by one party: by who took it out of a sheaf,
 *      or has changed its state from OUT, or has it ripe. It becomes another's by a sheaf or the
 *      quarantine (exchange: release and acquire), as without debug mode.
 *  G3  The quarantine is a ring of places. Who frees takes the next number, puts his block in that
 *      place and takes out what was there: what came in as many frees ago as there are places. Each
 *      block is in one place or in one hand, also in signal handlers and after fork(2).
 *  G4  Nothing here locks or waits. What may allocate (came, guards) is not reached by calls for signal handlers.
 */
#define _GNU_SOURCE
#include "base/attr.h"
#include "base/compiler.h"
#include "base/memory.h"
#include "debug_state.h"

#include <sys/syscall.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAVE_BACKTRACE 1
#endif
#endif
#ifndef HAVE_BACKTRACE
static int backtrace(void **frames, int n)
{
	(void)frames;
	(void)n;
	return 0;
}
#endif

#define ZONE ((size_t)16)
#define BLOCK_MAX (UINT32_C(1) << 30)
#define GUARDS 256
#define FLAGS_ALL (2 * SHEAF_DEBUG_ABORT - 1)
/* Those of ours that lie before the user's. */
#define OWN_FRAMES 8

/* The kernel's number of the calling thread, asked for once; and in how many children of children
 * we are, for the number is another one there. */
static __thread struct {
	uint32_t number;
	uint32_t generation;
} self __attribute__((tls_model("initial-exec")));
static uint32_t generation = 1;

void debug_fork_child(void)
{
	generation++;
}

static uint32_t thread_number(void)
{
	if (self.generation != generation) {
		self.number = (uint32_t)syscall(SYS_gettid);
		self.generation = generation;
	}
	return self.number;
}

void trace_copy(struct sheaf_debug_trace *to, const struct sheaf_debug_trace *from)
{
	uint32_t n = load_relaxed(&from->n), i;

	if (n > SHEAF_DEBUG_FRAMES)
		n = SHEAF_DEBUG_FRAMES;
	for (i = 0; i < n; i++)
		store_relaxed(&to->frames[i], load_relaxed(&from->frames[i]));
	store_relaxed(&to->thread, load_relaxed(&from->thread));
	store_relaxed(&to->n, n);
}

void trace_here(const struct debug *d, struct sheaf_debug_trace *trace, const void *caller)
{
	void *frames[SHEAF_DEBUG_FRAMES + OWN_FRAMES];
	int n = 0, first = 0, i;

	trace->thread = thread_number();
	trace->n = 1;
	trace->frames[0] = (void *)caller;
	if (d->flags & SHEAF_DEBUG_TRACE)
		n = backtrace(frames, SHEAF_DEBUG_FRAMES + OWN_FRAMES);
	while (first < n && frames[first] != caller)
		first++;
	for (i = first + 1; i < n && trace->n < SHEAF_DEBUG_FRAMES; i++)
		/* cppcheck-suppress uninitvar ; without a chain of calls n is 0 */
		trace->frames[trace->n++] = frames[i];
}

/* What the seed gives for a number (splitmix64). */
static uint64_t draw(const struct debug *d, uint64_t number)
{
	uint64_t x = (d->seed + number + 1) * UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* One of each run of so many, at a place that is drawn: a program that allocates in turns must not be in step. */
static bool sampled(struct debug *d)
{
	uint64_t number;

	if (!d->sample)
		return false;
	number = fetch_add_relaxed(&d->allocations, 1);
	return number % d->sample == draw(d, number / d->sample) % d->sample;
}

bool debug_refuses(struct debug *d, size_t *part)
{
	uint64_t x;

	if (!d->fail)
		return false;
	x = draw(d, fetch_add_relaxed(&d->calls, 1));
	if (x % d->fail)
		return false;
	if (part && *part)
		*part = (size_t)(x / d->fail % *part);
	return true;
}

/* Block for block: what comes out is free for the sheaves, or NULL. */
static void *quarantine(struct debug *d, void *block)
{
	uint64_t number;

	if (!d->quarantine_n)
		return block;
	number = fetch_add_relaxed(&d->quarantined, 1);
	return exchange_acq_rel(&d->quarantine[number % d->quarantine_n], block); /* G3 */
}

size_t debug_release(struct debug *d, size_t n, void **blocks)
{
	uint64_t oldest = load_relaxed(&d->quarantined), i;
	size_t done = 0;

	for (i = 0; i < d->quarantine_n && done < n; i++) {
		void **place = &d->quarantine[(oldest + i) % d->quarantine_n];

		if (load_relaxed(place))
			blocks[done] = exchange_acq_rel(place, NULL); /* G3 */
		else
			continue;
		done += blocks[done] != NULL;
	}
	return done;
}

uint64_t debug_held_back(const struct debug *d)
{
	uint64_t n = 0;
	uint32_t i;

	for (i = 0; i < d->quarantine_n; i++)
		n += load_relaxed(&d->quarantine[i]) != NULL;
	return n;
}

bool debug_holds_back(const struct debug *d, const void *block)
{
	uint32_t i;

	for (i = 0; i < d->quarantine_n; i++)
		if (load_relaxed(&d->quarantine[i]) == block)
			return true;
	return false;
}

void *debug_out(struct debug *d, void *block, const void *caller, bool nowait)
{
	struct debug_object *o = object_of(d, block), *guarded = NULL;
	struct sheaf_debug_trace here;

	trace_here(d, &here, caller);
	object_open(d, o);
	zones_check(d, o, &here, nowait);
	poison_check(d, o, &here, nowait);
	if (!nowait && sampled(d))
		guarded = guard_take(d);
	if (guarded) {
		store_relaxed(&o->guard, guarded);
		object_turn(o, d, OBJECT_LENT);
		object_close(d, o);
		store_relaxed(&guarded->block, block);
		o = guarded;
		object_open(d, o);
	}
	fresh_fill(d, o);
	trace_copy(&o->got, &here);
	store_relaxed(&o->gave.n, 0);
	object_turn(o, d, OBJECT_OUT);
	object_close(d, o);
	return o->object;
}

/* The pointer is no object of this cache that is out. */
static void report_stranger(struct debug *d, void *object, const struct debug_object *o,
			    const struct sheaf_debug_trace *here, bool nowait)
{
	struct finding finding = {.kind = SHEAF_DEBUG_NO_OBJECT,
				  .object = object,
				  .of = o,
				  .here = here,
				  .nowait = nowait,
				  .count = 1};
	uintptr_t whose = o ? load_acquire(&o->whose) : 0; /* D5 */

	if (whose_state(whose) == OBJECT_GONE || whose_state(whose) == OBJECT_LENT) {
		finding.of = object_around(object);
	} else if (whose_owner(whose) != d->owner) {
		finding.kind = SHEAF_DEBUG_WRONG_CACHE;
		finding.owner = whose_owner(whose);
	}
	if (finding.of)
		finding.offset = (char *)object - (char *)finding.of->object;
	debug_report(d, &finding);
}

static enum sheaf_debug_kind wrong_change(enum object_state was, enum object_state to)
{
	if (was == OBJECT_RETIRED)
		return to == OBJECT_FREE ? SHEAF_DEBUG_FREE_RETIRED : SHEAF_DEBUG_RETIRE_TWICE;
	return to == OBJECT_FREE ? SHEAF_DEBUG_DOUBLE_FREE : SHEAF_DEBUG_RETIRE_FREE;
}

/* The user's object is not his any more. NULL after a report. */
static struct debug_object *claim(struct debug *d, void *object, enum object_state to,
				  const struct sheaf_debug_trace *here, bool nowait)
{
	struct debug_object *o = object_find_of(object, d->owner), *top = object_find(object);
	uintptr_t was = whose_word(d->owner, OBJECT_OUT);

	if (!o || object_owner(o) != d->owner || object_state(o) == OBJECT_LENT) {
		report_stranger(d, object, o, here, nowait);
		return NULL;
	}
	/* D6: who had it of us has not given it back. */
	if (top != o && object_state(o) == OBJECT_OUT && object_state(top) != OBJECT_GONE) {
		report_stranger(d, object, top, here, nowait);
		return NULL;
	}
	if (!cas_acq_rel(&o->whose, &was, whose_word(d->owner, to))) { /* D2 */
		/* It was given back twice, and is another's since. */
		if (whose_owner(was) != d->owner) {
			report_stranger(d, object, o, here, nowait);
			return NULL;
		}
		struct finding finding = {.kind = wrong_change(whose_state(was), to),
					  .object = object,
					  .of = o,
					  .here = here,
					  .nowait = nowait,
					  .count = 1};

		debug_report(d, &finding);
		return NULL;
	}
	return o;
}

/* He gives it back. */
static struct debug_object *claim_from(struct debug *d, void *object, enum object_state to,
				       const void *caller, bool nowait)
{
	struct sheaf_debug_trace here;
	struct debug_object *o;

	trace_here(d, &here, caller);
	o = claim(d, object, to, &here, nowait);
	if (!o)
		return NULL;
	trace_copy(&o->gave, &here);
	object_open(d, o);
	zones_check(d, o, &here, nowait);
	return o;
}

void *debug_block(const struct debug *d, const struct debug_object *o)
{
	return load_relaxed(&o->place) ? load_relaxed(&o->block) : (char *)o->object - d->front;
}

/* An object, opened, is free from here on: its block, for quarantine or sheaves. */
static void *settle(struct debug *d, struct debug_object *o)
{
	void *block = debug_block(d, o);
	struct debug_object *lent;

	if (!o->place) {
		poison_fill(d, o);
		object_close(d, o);
		return block;
	}
	lent = object_of(d, block);
	store_relaxed(&lent->guard, NULL);
	object_turn(lent, d, OBJECT_FREE);
	object_close(d, o);
	guard_give(d, o);
	return block;
}

void *debug_in(struct debug *d, void *object, const void *caller, bool nowait)
{
	struct debug_object *o = claim_from(d, object, OBJECT_FREE, caller, nowait);

	return o ? quarantine(d, settle(d, o)) : NULL;
}

void *debug_retired(struct debug *d, void *object, const void *caller, bool nowait)
{
	struct debug_object *o = claim_from(d, object, OBJECT_RETIRED, caller, nowait);

	if (!o)
		return NULL;
	object_close(d, o);
	return debug_block(d, o);
}

/* What the user has of a block. */
static struct debug_object *users(const struct debug *d, void *block)
{
	struct debug_object *o = object_of(d, block), *guard = load_relaxed(&o->guard);

	return guard ? guard : o;
}

void debug_ripe(struct debug *d, struct sheaf *sheaf, bool nowait)
{
	static const struct sheaf_debug_trace nowhere;
	uint32_t kept = 0, i;

	for (i = 0; i < sheaf->size; i++) {
		struct debug_object *o = users(d, sheaf->objects[i]);
		void *block;

		object_turn(o, d, OBJECT_FREE);
		object_open(d, o);
		zones_check(d, o, &nowhere, nowait);
		block = quarantine(d, settle(d, o));
		if (block)
			sheaf->objects[kept++] = block;
	}
	sheaf->size = kept;
}

void debug_show(struct debug *d, struct sheaf *sheaf)
{
	uint32_t i;

	for (i = 0; i < sheaf->size; i++) {
		struct debug_object *o = users(d, sheaf->objects[i]);

		object_turn(o, d, OBJECT_OUT);
		sheaf->objects[i] = o->object;
	}
}

/* The callback has given nothing back: who retired an object stays known. */
void debug_hide(struct debug *d, struct sheaf *sheaf)
{
	struct sheaf_debug_trace here;
	uint32_t kept = 0, i;

	/* As an address in it, to which a call would return: names are looked for before that. */
	trace_here(d, &here, (const char *)d->cache->ripe + 1);
	for (i = 0; i < sheaf->size; i++) {
		struct debug_object *o = claim(d, sheaf->objects[i], OBJECT_RETIRED, &here, false);

		if (!o)
			continue;
		object_open(d, o);
		zones_check(d, o, &here, false);
		sheaf->objects[kept++] = debug_block(d, o);
	}
	sheaf->size = kept;
}

void object_begin(const struct debug *d, struct debug_object *o, uint32_t front, uint32_t back)
{
	store_relaxed(&o->size, d->size);
	store_relaxed(&o->front, front);
	store_relaxed(&o->back, back);
	store_relaxed(&o->before, front);
	store_relaxed(&o->behind, back);
	store_relaxed(&o->guard, NULL);
	store_relaxed(&o->got.n, 0);
	store_relaxed(&o->gave.n, 0);
	store_relaxed(&o->place, NULL);
}

/* The entry of a block that has come; NULL if it is of no use. */
static struct debug_object *enter(struct debug *d, void *block)
{
	bool taken;
	struct debug_object *o = object_take((char *)block + d->front, d->owner, &taken);

	if (!o) {
		d->cache->backend.ops->free_bulk(d->cache->backend.ctx, 1, &block);
		return NULL;
	}
	if (!taken) {
		static const struct sheaf_debug_trace nowhere;
		struct finding finding = {.kind = SHEAF_DEBUG_BACKEND,
					  .object = o->object,
					  .of = o,
					  .here = &nowhere,
					  .count = 1};

		debug_report(d, &finding);
		return NULL;
	}
	object_begin(d, o, d->front, d->back);
	return o;
}

size_t debug_came(struct debug *d, size_t n, void **blocks)
{
	struct sheaf_cache *cache = d->cache;
	struct debug_object *o;
	size_t kept = 0, i;

	for (i = 0; i < n; i++) {
		o = enter(d, blocks[i]);
		if (!o)
			continue;
		object_open(d, o);
		zones_fill(d, o);
		blocks[kept++] = o->object;
	}
	if (cache->ctor && kept)
		cache->ctor(cache->ctor_arg, kept, blocks);
	for (i = 0; i < kept; i++) {
		o = object_find_of(blocks[i], d->owner);
		poison_fill(d, o);
		object_close(d, o);
		object_turn(o, d, OBJECT_FREE);
		blocks[i] = debug_block(d, o);
	}
	return kept;
}

void debug_gone(struct debug *d, size_t n, void *const *blocks)
{
	static const struct sheaf_debug_trace nowhere;
	size_t i;

	for (i = 0; i < n; i++) {
		struct debug_object *o = object_of(d, blocks[i]);

		object_open(d, o);
		zones_check(d, o, &nowhere, false);
		/* Not those that were abandoned. */
		if (object_state(o) == OBJECT_FREE)
			poison_check(d, o, &nowhere, false);
		/* Before the memory is another one's (D4). */
		object_turn(o, d, OBJECT_GONE);
	}
	blocks_out(d->cache, n, blocks);
}

/* Red zones round objects of our own backends. */
static void set_zones(struct debug *d, const struct sheaf_cache_attr *a)
{
	size_t front = d->align > ZONE ? d->align : ZONE, bytes;

	if (!(d->flags & SHEAF_DEBUG_REDZONE) || a->backend.ops)
		return;
	bytes = (front + d->size + 2 * ZONE - 1) & ~(ZONE - 1);
	if (bytes > BLOCK_MAX)
		return;
	d->front = (uint32_t)front;
	d->back = (uint32_t)(bytes - front - d->size);
	d->cache->block_size = bytes;
}

static bool attr_valid(const struct sheaf_debug_attr *attr)
{
	return attr->flags <= FLAGS_ALL && attr->quarantine <= QUARANTINE_MAX &&
	       attr->guards <= GUARDS_MAX;
}

void debug_numbered(struct debug *d)
{
	store_relaxed(&d->owner->number, d->cache->id + 1);
}

int debug_create(struct debug **made, struct sheaf_cache *cache, const struct sheaf_cache_attr *a,
		 const struct sheaf_debug_attr *attr)
{
	struct debug *d;
	void *frame;

	if (!attr_valid(attr))
		return -EINVAL;
	d = memory_zalloc(sizeof(void *), sizeof(*d));
	if (!d)
		return -ENOMEM;
	*d = (struct debug){
		.cache = cache,
		.size = a->object_size,
		.align = a->object_align,
		.flags = attr->flags,
		.fail = attr->fail,
		.seed = attr->seed,
		.report = attr->report,
		.report_arg = attr->report_arg,
		.quarantine_n = attr->quarantine,
		.sample = a->backend.ops && a->backend.ops->stable ? 0 : attr->sample,
	};
	if (!d->align)
		d->align = a->object_size < 16 ? 8 : 16;
	if (d->align > (size_t)sysconf(_SC_PAGESIZE))
		d->sample = 0;
	set_zones(d, a);
	d->owner = owner_take(cache->name);
	if (!d->owner)
		goto no_memory;
	if (d->quarantine_n) {
		d->quarantine =
			memory_zalloc(sizeof(void *), d->quarantine_n * sizeof(*d->quarantine));
		if (!d->quarantine)
			goto no_memory;
	}
	if (d->sample && guards_make(d, attr->guards ? attr->guards : GUARDS))
		goto no_memory;
	/* The first time it loads what it needs, which is not for signal handlers. */
	if (d->flags & SHEAF_DEBUG_TRACE)
		(void)backtrace(&frame, 1);
	*made = d;
	return 0;
no_memory:
	if (d->owner)
		owner_give(d->owner);
	memory_free(d->quarantine);
	memory_free(d);
	return -ENOMEM;
}

void debug_destroy(struct debug *d)
{
	/* In this order (D5); and before the guards' pages are another one's (D4). */
	objects_leave(d->owner);
	owner_give(d->owner);
	guards_delete(d);
	memory_free(d->quarantine);
	memory_free(d);
}
