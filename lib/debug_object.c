/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The book of all objects of all caches with debug mode, by address.
 *
 * A tree of nodes of 16 places, that only grows. An address is mixed by object_bits(), which is one to one; its
 * lowest 4 bits choose the place in the first node, the next 4 that in the second, and so on. A place is
 * empty, or has an entry (lowest bit set), or a node. Two addresses differ in one of 16 steps. Entries are
 * in a list besides, so that leak checkers find a pointer to the start of all that the book has.
 *
 *	place: empty -> entry                  CAS
 *	       entry -> node with the entry    CAS, if another address has the same bits so far
 *	above: NULL -> entry of the address    CAS, if all below are somebody's
 *
 *  B1  A place changes twice at most, and what is reached from it grows only. So a search is
 *      wait-free, at any time, in signal handlers too: it finds the entry, or what it has read shows
 *      that the entry was not there when it came by.
 *  B2  Whoever finds an entry or a node sees it made: CAS (release) to load (acquire).
 *  B3  Nothing is freed, so nobody can hold what is freed, and a place has no ABA. The book stays
 *      when the last cache ends; memory that is used again finds its entries again.
 *  B4  The address of an entry is fixed, its owner is not: who has an entry from the book reads in `whose` what it is
 *      now. The stack of an address (D6) is as high as it ever had owners at one time. Who takes an
 *      address looks for the lowest entry that is GONE, and swaps in himself; of two who do, one looks again. So
 *      a backend that gives one owner an address twice at the same time is found as well.
 *      Owners are lost and won only by that swap, and by the one of an owner that ends.
 */
#include "base/compiler.h"
#include "base/memory.h"
#include "debug_state.h"

#include <stdio.h>
#include <string.h>

#define BITS 4
#define PLACES (1 << BITS)

struct book_node {
	void *place[PLACES];
};

static struct book_node book;
static struct debug_object *entries;
static struct debug_owner *owners;

struct debug_owner *owner_take(const char *name)
{
	struct debug_owner *owner;

	/* acquire: partner the CAS below */
	for (owner = load_acquire(&owners); owner; owner = owner->next) {
		uint32_t no = 0;

		/* Partner: owner_give(). What the last one had is nobody's. */
		if (!strcmp(owner->name, name) && cas_acquire(&owner->used, &no, 1))
			return owner;
	}
	owner = memory_zalloc(STATE_BITS + 1, sizeof(*owner));
	if (!owner)
		return NULL;
	snprintf(owner->name, sizeof(owner->name), "%s", name);
	owner->used = 1;
	owner->next = load_relaxed(&owners);
	/* release: partner the load above */
	while (!cas_weak_release(&owners, &owner->next, owner))
		;
	return owner;
}

void owner_give(struct debug_owner *owner)
{
	store_relaxed(&owner->number, 0);
	/* release: partner owner_take() */
	store_release(&owner->used, 0);
}

const struct debug_owner *owner_find(uint16_t id)
{
	const struct debug_owner *owner;

	/* acquire: partner the CAS in owner_take() */
	for (owner = load_acquire(&owners); owner; owner = owner->next) {
		uint32_t number = load_relaxed(&owner->number);

		if (number && (uint16_t)(number - 1) == id)
			return owner;
	}
	return NULL;
}

static bool is_entry(const void *what)
{
	return (uintptr_t)what & 1;
}

static bool is_node(const void *what)
{
	return what && !is_entry(what);
}

static struct debug_object *to_entry(void *what)
{
	return is_entry(what) ? (struct debug_object *)((char *)what - 1) : NULL;
}

static void *from_entry(struct debug_object *entry)
{
	return (char *)entry + 1;
}

/* The place where the entry of these bits is or would be; *shift says how deep. */
static void **place_of(uint64_t bits, unsigned *shift)
{
	void **place = &book.place[bits % PLACES], *what;

	/* acquire: B2 */
	for (*shift = BITS; is_node(what = load_acquire(place)); *shift += BITS)
		place = &((struct book_node *)what)->place[(bits >> *shift) % PLACES];
	return place;
}

/* The lowest entry of an address. */
static struct debug_object *lowest(const void *object)
{
	struct debug_object *entry;
	unsigned shift;
	void **place, *what;

	do {
		place = place_of(object_bits(object), &shift);
		/* acquire: B2. It may have become a node meanwhile. */
		what = load_acquire(place);
	} while (is_node(what));
	entry = to_entry(what);
	return entry && entry->object == object ? entry : NULL;
}

struct debug_object *object_find_of(const void *object, const struct debug_owner *owner)
{
	struct debug_object *o = lowest(object), *found = o, *was = NULL;
	enum object_state state = OBJECT_GONE;

	/* acquire: B2 */
	for (; o; o = load_acquire(&o->above)) {
		uintptr_t whose = load_acquire(&o->whose); /* D5 */
		bool his = owner && whose_owner(whose) == owner;

		if (whose_state(whose) == OBJECT_GONE) {
			was = his ? o : was;
			continue;
		}
		if (his)
			return o;
		found = o;
		state = whose_state(whose);
	}
	/* What another one has given to his user is not what the owner had. */
	return was && state != OBJECT_OUT ? was : found;
}

struct debug_object *object_find(const void *object)
{
	return object_find_of(object, NULL);
}

/* The entry in the place makes room for others. False if there is no memory. */
static bool split(void **place, struct debug_object *entry, unsigned shift)
{
	struct book_node *node = memory_zalloc(sizeof(void *), sizeof(*node));
	void *expected = from_entry(entry);

	if (!node)
		return false;
	node->place[(object_bits(entry->object) >> shift) % PLACES] = expected;
	/* release: B2 */
	if (!cas_release(place, &expected, (void *)node))
		memory_free(node);
	return true;
}

/* Puts it where it can be found; what is there if another one came first, NULL without memory. */
static struct debug_object *publish(struct debug_object *entry)
{
	for (;;) {
		unsigned shift;
		void **place = place_of(object_bits(entry->object), &shift), *none = NULL;
		void *what = load_acquire(place); /* B2 */
		struct debug_object *there = to_entry(what);

		if (is_node(what))
			continue;
		if (there && there->object == entry->object)
			return there;
		if (there && !split(place, there, shift))
			return NULL;
		/* release: B2 */
		if (!there && cas_release(place, &none, from_entry(entry)))
			return entry;
	}
}

/* Puts it over another one of its address; what is there if another one came first. */
static struct debug_object *pile(struct debug_object *below, struct debug_object *entry)
{
	struct debug_object *none = NULL;

	/* release: B2 */
	return cas_release(&below->above, &none, entry) ? entry
							: load_acquire(&below->above); /* B2 */
}

/* The lowest entry of an address, or the one over another; there or new. */
static struct debug_object *make(void *object, struct debug_object *below)
{
	struct debug_object *entry = memory_zalloc(sizeof(void *), sizeof(*entry)), *there;

	if (!entry)
		return NULL;
	entry->object = object;
	there = below ? pile(below, entry) : publish(entry);
	if (there != entry) {
		memory_free(entry);
		return there;
	}
	entry->next = load_relaxed(&entries);
	/* release: partner object_first() */
	while (!cas_weak_release(&entries, &entry->next, entry))
		;
	return entry;
}

struct debug_object *object_make(void *object)
{
	struct debug_object *entry = lowest(object);

	return entry ? entry : make(object, NULL);
}

/* The lowest entry of an address that is GONE, or is the owner's since we have looked. */
static struct debug_object *vacant(void *object, const struct debug_owner *owner)
{
	struct debug_object *o = object_make(object), *above;

	for (; o && object_state(o) != OBJECT_GONE && object_owner(o) != owner; o = above) {
		above = load_acquire(&o->above); /* B2 */
		if (!above)
			above = make(object, o);
	}
	return o;
}

struct debug_object *object_take(void *object, const struct debug_owner *owner, bool *taken)
{
	for (;;) {
		struct debug_object *o = object_find_of(object, owner);
		uintptr_t whose = o ? load_acquire(&o->whose) : 0;

		*taken = false;
		if (whose_owner(whose) == owner && whose_state(whose) != OBJECT_GONE)
			return o;
		o = vacant(object, owner);
		if (!o)
			return NULL;
		whose = load_relaxed(&o->whose);
		if (whose_state(whose) != OBJECT_GONE)
			continue;
		/* acquire: D4, release: D5 */
		*taken = cas_acq_rel(&o->whose, &whose, whose_word(owner, OBJECT_COMING));
		if (*taken)
			return o;
	}
}

void objects_leave(const struct debug_owner *owner)
{
	struct debug_object *o;

	for (o = object_first(); o; o = o->next) {
		uintptr_t whose = load_relaxed(&o->whose);

		/* release: D4. If it fails, whoever has the memory now has the entry. */
		if (whose_owner(whose) == owner)
			(void)cas_release(&o->whose, &whose, whose_word(NULL, OBJECT_GONE));
	}
}

struct debug_object *object_first(void)
{
	/* Partner: the CAS in make(). */
	return load_acquire(&entries);
}

static bool is_around(const struct debug_object *o, const char *address)
{
	const char *object = o->object;

	return object_state(o) != OBJECT_GONE && address >= object - load_relaxed(&o->before) &&
	       address < object + load_relaxed(&o->size) + load_relaxed(&o->behind);
}

struct debug_object *object_around(const void *address)
{
	struct debug_object *o, *found = NULL;

	/* The smallest one; and of the same size the youngest, which is the upper one of a stack. */
	for (o = object_first(); o; o = o->next)
		if (is_around(o, address) &&
		    (!found || load_relaxed(&o->size) < load_relaxed(&found->size)))
			found = o;
	return found;
}

struct debug_object *object_at(const void *address)
{
	struct debug_object *o = object_find(address);

	return o && object_state(o) != OBJECT_GONE ? o : object_around(address);
}
