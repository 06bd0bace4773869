/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/sheaf.h
 * A sheaf: a bounded array of object pointers, last in first out.
 *
 * A sheaf is owned by exactly one party at a time; nothing here locks, blocks
 * or allocates. Handing a sheaf to another thread is the business of the barn
 * and of the recycler (or of any queue of yours: the link word is free for
 * whoever owns the sheaf).
 *
 *	 0        4        8        16       24   26   28      32
 *	 +--------+--------+--------+--------+----+----+-------+----------...
 *	 | size   |capacity| link   | ticket |node|mark| stamp | objects[capacity]
 *	 +--------+--------+--------+--------+----+----+-------+----------...
 *
 * Invariant: size <= capacity, and objects[0 .. size-1] are non-NULL.
 * The head is 32 bytes, so capacities 28, 60 and 124 fill 256, 512 and 1024
 * bytes exactly.
 *
 * Capacity belongs to each sheaf: sheaves of different capacity may meet
 * everywhere, and whoever receives one reads its size and assumes nothing.
 */
#ifndef SHEAF_SHEAF_H
#define SHEAF_SHEAF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/** A bounded array of object pointers; the layout is shown above. */
struct sheaf {
	/** Objects held now. */
	uint32_t size;
	/** Objects it can hold; fixed by sheaf_init(). */
	uint32_t capacity;
	/** Free for the owner: barn and recycler chain sheaves through it. */
	struct sheaf *link;
	/** Recycler: ripe once this ticket has elapsed. */
	uint64_t ticket;
	/** NUMA node where a retired sheaf was sealed; the cache's own while a sheaf is lent. */
	uint16_t node;
	/** Free for the owner; zero after sheaf_init(). */
	uint16_t mark;
	/** Recycler: when it was given, in microseconds, wrapping. */
	uint32_t stamp;
	/** The objects; the newest is objects[size - 1]. */
#ifdef __cplusplus
	void *objects[1];
#else
	void *objects[];
#endif
};

/** Largest capacity of one sheaf, in objects. */
#define SHEAF_CAPACITY_MAX (UINT32_C(1) << 28)

/**
 * Bytes of memory that a sheaf of @p capacity objects needs.
 *
 * @param capacity objects, at most SHEAF_CAPACITY_MAX
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: the size in bytes.
 */
static inline size_t sheaf_bytes(uint32_t capacity)
{
	return offsetof(struct sheaf, objects) + (size_t)capacity * sizeof(void *);
}

/**
 * Make an empty sheaf in the caller's memory.
 *
 * @param mem at least sheaf_bytes(capacity) bytes, aligned for a pointer; stays
 *	the caller's and must outlive the sheaf. A sheaf needs no fini.
 * @param capacity objects it can hold; 0 is legal (then it is both empty and full)
 *
 * Context: any. Ordering: none. Progress: wait-free.
 * Return: @p mem as a sheaf; valid as long as that memory.
 */
static inline struct sheaf *sheaf_init(void *mem, uint32_t capacity)
{
	struct sheaf *sheaf = (struct sheaf *)mem;

	memset(sheaf, 0, offsetof(struct sheaf, objects));
	sheaf->capacity = capacity;
	return sheaf;
}

/**
 * Objects in the sheaf.
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: 0 to capacity.
 */
static inline uint32_t sheaf_size(const struct sheaf *sheaf)
{
	return sheaf->size;
}

/**
 * Objects that still fit.
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: capacity minus size.
 */
static inline uint32_t sheaf_room(const struct sheaf *sheaf)
{
	return sheaf->capacity - sheaf->size;
}

/**
 * Is there nothing to pop?
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: true if size is 0.
 */
static inline bool sheaf_empty(const struct sheaf *sheaf)
{
	return sheaf->size == 0;
}

/**
 * Is there no room to push? A sheaf of capacity 0 is empty and full.
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: true if size equals capacity.
 */
static inline bool sheaf_full(const struct sheaf *sheaf)
{
	return sheaf->size == sheaf->capacity;
}

/**
 * Put one object on top.
 *
 * @param sheaf owned by the caller
 * @param object not NULL; the sheaf owns it from now on
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: true if it was put; false if the sheaf was full (nothing changed, the
 *	object stays the caller's).
 */
static inline bool sheaf_push(struct sheaf *sheaf, void *object)
{
	if (sheaf->size == sheaf->capacity)
		return false;
	sheaf->objects[sheaf->size++] = object;
	return true;
}

/** Private to the library: tells leak checkers that the n objects above the newest are not held
 *  here any more. */
static inline void sheaf_forget(struct sheaf *sheaf, uint32_t n)
{
#ifdef SHEAF_VALGRIND
	if (n)
		memset(&sheaf->objects[sheaf->size], 0, (size_t)n * sizeof(void *));
#else
	(void)sheaf;
	(void)n;
#endif
}

/**
 * Take the newest object.
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: the object, now the caller's; NULL if the sheaf was empty.
 */
static inline void *sheaf_pop(struct sheaf *sheaf)
{
	void *object;

	if (sheaf->size == 0)
		return NULL;
	object = sheaf->objects[--sheaf->size];
	sheaf_forget(sheaf, 1);
	return object;
}

/**
 * Look at the newest object without taking it.
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: the object, still the sheaf's; NULL if the sheaf was empty.
 */
static inline void *sheaf_peek(const struct sheaf *sheaf)
{
	return sheaf->size == 0 ? NULL : sheaf->objects[sheaf->size - 1];
}

/**
 * Put many objects on top, as many as fit.
 *
 * @param sheaf owned by the caller
 * @param n objects offered
 * @param objects array of @p n non-NULL pointers; the array stays the caller's.
 *	objects[0] is pushed first, so the last one pushed is popped first.
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: how many were put, min(n, room): objects[0 .. ret-1] are the sheaf's
 *	now, the rest stays the caller's.
 */
static inline uint32_t sheaf_push_many(struct sheaf *sheaf, uint32_t n, void *const *objects)
{
	uint32_t room = sheaf->capacity - sheaf->size;

	if (n > room)
		n = room;
	if (n)
		memcpy(&sheaf->objects[sheaf->size], objects, (size_t)n * sizeof(void *));
	sheaf->size += n;
	return n;
}

/**
 * Take up to @p n of the newest objects.
 *
 * @param sheaf owned by the caller
 * @param n objects wanted
 * @param objects room for @p n pointers; they are stored in the order they were
 *	pushed (the newest last)
 *
 * Context: the owner. Ordering: none. Progress: wait-free.
 * Return: how many were taken, min(n, size); they are the caller's now.
 */
static inline uint32_t sheaf_pop_many(struct sheaf *sheaf, uint32_t n, void **objects)
{
	if (n > sheaf->size)
		n = sheaf->size;
	sheaf->size -= n;
	if (n)
		memcpy(objects, &sheaf->objects[sheaf->size], (size_t)n * sizeof(void *));
	sheaf_forget(sheaf, n);
	return n;
}

/**
 * Move up to @p n of the newest objects from one sheaf to another.
 *
 * @param dst owned by the caller, not @p src
 * @param src owned by the caller
 * @param n objects at most
 *
 * Context: the owner of both. Ordering: none. Progress: wait-free.
 * Return: how many moved, min(n, room of dst, size of src).
 */
static inline uint32_t sheaf_move(struct sheaf *dst, struct sheaf *src, uint32_t n)
{
	if (n > src->size)
		n = src->size;
	if (n > sheaf_room(dst))
		n = sheaf_room(dst);
	n = sheaf_push_many(dst, n, &src->objects[src->size - n]);
	src->size -= n;
	sheaf_forget(src, n);
	return n;
}

/**
 * Does the invariant of the picture above hold?
 *
 * Context: the owner; for tests and debug builds (walks the array).
 * Ordering: none. Progress: wait-free, O(size).
 * Return: true if it holds.
 */
static inline bool sheaf_check(const struct sheaf *sheaf)
{
	uint32_t i;

	if (sheaf->size > sheaf->capacity || sheaf->capacity > SHEAF_CAPACITY_MAX)
		return false;
	for (i = 0; i < sheaf->size; i++)
		if (!sheaf->objects[i])
			return false;
	return true;
}

#ifdef __cplusplus
}
#endif

#endif
