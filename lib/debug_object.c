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
 *
 *  B1  A place changes twice at most, and what is reached from it grows only. So a search is
 *      wait-free, at any time, in signal handlers too: it finds the entry, or what it has read shows
 *      that the entry was not there when it came by.
 *  B2  Whoever finds an entry or a node sees it made: CAS (release) to load (acquire).
 *  B3  Nothing is freed, so nobody can hold what is freed, and a place has no ABA. The book stays
 *      when the last cache ends; memory that is used again finds its entries again.
 */
#include "base/compiler.h"
#include "base/memory.h"
#include "debug_state.h"

#define BITS 4
#define PLACES (1 << BITS)

struct book_node {
	void *place[PLACES];
};

static struct book_node book;
static struct debug_object *entries;

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

struct debug_object *object_find(const void *object)
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

struct debug_object *object_make(void *object)
{
	struct debug_object *entry = object_find(object), *there;

	if (entry)
		return entry;
	entry = memory_zalloc(sizeof(void *), sizeof(*entry));
	if (!entry)
		return NULL;
	entry->object = object;
	there = publish(entry);
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

struct debug_object *object_first(void)
{
	/* Partner: the CAS in object_make(). */
	return load_acquire(&entries);
}

static bool is_around(const struct debug_object *o, const char *address)
{
	const char *object = o->object;

	return load_relaxed(&o->state) != OBJECT_GONE &&
	       address >= object - load_relaxed(&o->front) &&
	       address < object + load_relaxed(&o->size) + load_relaxed(&o->back);
}

struct debug_object *object_around(const void *address)
{
	struct debug_object *o;

	for (o = object_first(); o && !is_around(o, address); o = o->next)
		;
	return o;
}

struct debug_object *object_at(const void *address)
{
	struct debug_object *o = object_find(address);

	return o && load_relaxed(&o->state) != OBJECT_GONE ? o : object_around(address);
}
