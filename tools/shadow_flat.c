/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Two steps make up every call: cut() removes a range, and put() inserts one where
 * there is nothing. A recording that contradicts itself is reported by the replay;
 * here it leads to some map or other, never to a fault.
 */
#include "shadow_flat.h"

#include "shadow.h"

#include <stdlib.h>
#include <string.h>

size_t flat_find(const struct flat *flat, uint64_t address)
{
	size_t low = 0, high = flat->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (flat->ranges[middle].last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

uint8_t flat_state(const struct flat *flat, uint64_t address)
{
	size_t i = flat_find(flat, address);

	return i < flat->count && flat->ranges[i].first <= address ? flat->ranges[i].prot : SHADOW_HOLE;
}

static int insert(struct flat *flat, size_t at, struct flat_range range)
{
	if (flat->count == flat->room) {
		size_t room = flat->room ? 2 * flat->room : 64;
		void *larger = realloc(flat->ranges, room * sizeof(range));

		if (!larger)
			return -1;
		flat->ranges = larger;
		flat->room = room;
	}
	memmove(&flat->ranges[at + 1], &flat->ranges[at], (flat->count - at) * sizeof(range));
	flat->ranges[at] = range;
	flat->count++;
	return 0;
}

/* Make a boundary before @address, if it lies inside a range. */
static int split(struct flat *flat, uint64_t address)
{
	size_t i = flat_find(flat, address);
	struct flat_range left;

	if (i == flat->count || flat->ranges[i].first >= address)
		return 0;
	left = flat->ranges[i];
	left.last = address - 1;
	flat->ranges[i].first = address;
	return insert(flat, i, left);
}

static int cut(struct flat *flat, uint64_t first, uint64_t last)
{
	size_t begin, end;

	if (split(flat, first) || (last != UINT64_MAX && split(flat, last + 1)))
		return -1;
	begin = end = flat_find(flat, first);
	while (end < flat->count && flat->ranges[end].last <= last)
		end++;
	memmove(&flat->ranges[begin], &flat->ranges[end], (flat->count - end) * sizeof(*flat->ranges));
	flat->count -= end - begin;
	return 0;
}

static int put(struct flat *flat, struct flat_range range)
{
	if (cut(flat, range.first, range.last))
		return -1;
	return insert(flat, flat_find(flat, range.first), range);
}

int flat_start(struct flat *flat, const struct trace_range *ranges, size_t count)
{
	*flat = (struct flat){0};
	for (size_t i = 0; i < count; i++)
		if (insert(flat, i, (struct flat_range){ranges[i].first, ranges[i].last, ranges[i].prot,
							false, ranges[i].stack}))
			return -1;
	return 0;
}

int flat_fork(struct flat *flat, const struct flat *from)
{
	*flat = (struct flat){.brk = from->brk};
	for (size_t i = 0; i < from->count; i++)
		if (!from->ranges[i].nofork && insert(flat, flat->count, from->ranges[i]))
			return -1;
	return 0;
}

/* If the stack lies above the hole that holds @address, it grew down to there. */
static int grow_stack(struct flat *flat, uint64_t address)
{
	size_t i = flat_find(flat, address);

	if (i < flat->count && flat->ranges[i].stack && flat->ranges[i].first > address)
		flat->ranges[i].first = address;
	return 0;
}

/* Change prot (@prot given) or nofork of what lies in a range, up to a hole. */
static int change(struct flat *flat, uint64_t first, uint64_t last, const uint8_t *prot, bool nofork)
{
	if (split(flat, first) || split(flat, last + 1))
		return -1;
	for (size_t i = flat_find(flat, first); i < flat->count && first <= last; i++) {
		if (flat->ranges[i].first > last || (prot && flat->ranges[i].first != first))
			break;
		if (prot)
			flat->ranges[i].prot = (uint8_t)(*prot | (flat->ranges[i].prot & TRACE_S));
		else
			flat->ranges[i].nofork = nofork;
		first = flat->ranges[i].last + 1;
	}
	return 0;
}

/* Are two neighbours one mapping of the kernel? */
static bool alike(const struct flat_range *a, const struct flat_range *b)
{
	return a->last + 1 == b->first && a->prot == b->prot && a->nofork == b->nofork &&
	       a->stack == b->stack;
}

static int protect(struct flat *flat, const struct trace_event *event)
{
	uint64_t first = event->addr, last = event->addr + event->len - 1;
	size_t i;

	if (!(event->flags & TRACE_PREFIX) && grow_stack(flat, first))
		return -1;
	i = flat_find(flat, first);
	if ((event->flags & TRACE_GROWSDOWN) && i < flat->count && flat->ranges[i].first <= first) {
		while (i && flat->ranges[i].stack && alike(&flat->ranges[i - 1], &flat->ranges[i]))
			i--;
		first = flat->ranges[i].first;
	}
	if (event->flags & TRACE_PREFIX) {
		uint64_t at = first;

		/* Without a hole it failed for another reason, before any change. */
		for (; i < flat->count && flat->ranges[i].first <= at && at <= last; i++)
			at = flat->ranges[i].last + 1;
		if (at > last)
			return 0;
	}
	return change(flat, first, last, &event->prot, false);
}

static int remap(struct flat *flat, const struct trace_event *event)
{
	uint64_t old_last = event->addr + event->len - 1, moved, at, first = event->addr;
	uint64_t kept = event->len < event->new_len ? event->len : event->new_len;
	struct flat copy = {0};
	int result = 0;

	if (event->result == event->addr && event->len >= event->new_len)
		return event->len == event->new_len ? 0 :
						      cut(flat, event->addr + event->new_len, old_last);
	/* Copy what is moved; the last piece takes the growth. */
	moved = event->addr + kept - 1;
	for (size_t i = flat_find(flat, event->addr); i < flat->count; i++) {
		struct flat_range range = flat->ranges[i];

		if (range.first > moved)
			break;
		at = range.first > first ? range.first : first;
		range.last = range.last >= moved ? event->addr + event->new_len - 1 : range.last;
		range.first = at - event->addr + event->result;
		range.last = range.last - event->addr + event->result;
		if (insert(&copy, copy.count, range)) {
			flat_free(&copy);
			return -1;
		}
	}
	if (!(event->flags & TRACE_KEEP))
		result = cut(flat, event->addr, old_last);
	if (!result)
		result = cut(flat, event->result, event->result + event->new_len - 1);
	for (size_t i = 0; i < copy.count && !result; i++)
		result = put(flat, copy.ranges[i]);
	flat_free(&copy);
	return result;
}

static int set_brk(struct flat *flat, const struct trace *trace, const struct trace_event *event)
{
	uint64_t mask = ~(trace->page - 1);
	uint64_t from = (flat->brk + trace->page - 1) & mask, to = (event->result + trace->page - 1) & mask;
	bool known = flat->brk;

	flat->brk = event->result;
	if (!known || from == to)
		return 0;
	if (to < from)
		return cut(flat, to, from - 1);
	return put(flat, (struct flat_range){from, to - 1, TRACE_R | TRACE_W, false, false});
}

int flat_call(struct flat *flat, const struct trace *trace, const struct trace_event *event)
{
	uint64_t last = event->addr + event->len - 1;

	switch (event->kind) {
	case TRACE_MMAP:
		return put(flat, (struct flat_range){event->result, event->result + event->len - 1,
						     event->prot, false, false});
	case TRACE_MUNMAP:
		return cut(flat, event->addr, last);
	case TRACE_MPROTECT:
		return protect(flat, event);
	case TRACE_MREMAP:
		return remap(flat, event);
	case TRACE_BRK:
		return set_brk(flat, trace, event);
	case TRACE_ADVISE:
		return change(flat, event->addr, last, NULL, event->flags & TRACE_NOFORK);
	default:
		return 0;
	}
}

int flat_check(struct flat *flat, const struct trace_range *ranges, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (ranges[i].stack)
			return grow_stack(flat, ranges[i].first);
	return 0;
}

void flat_free(struct flat *flat)
{
	free(flat->ranges);
	*flat = (struct flat){0};
}
