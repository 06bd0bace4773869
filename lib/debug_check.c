/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Patterns: what free objects and red zones should look like, and what was written there. */
#include "base/annotate.h"
#include "debug_state.h"

#include <string.h>

static unsigned char *begin_of(const struct debug_object *o)
{
	return (unsigned char *)o->object - o->front;
}

/* A checker knows these bytes as nobody's. */
void object_open(const struct debug *d, const struct debug_object *o)
{
	if (!d->cache->stable)
		annotate_open_filled(begin_of(o), o->front + d->size + o->back);
}

void object_close(const struct debug *d, const struct debug_object *o)
{
	if (d->cache->stable)
		return;
	if (object_state(o) == OBJECT_RETIRED) {
		/* Readers may be in it. */
		annotate_shut(begin_of(o), o->front);
		annotate_shut((char *)o->object + d->size, o->back);
		return;
	}
	annotate_shut(begin_of(o), o->front + d->size + o->back);
	if (object_state(o) != OBJECT_OUT)
		return;
	if (d->cache->ctor)
		annotate_open_filled(o->object, d->size);
	else
		annotate_open(o->object, d->size);
}

/* The first and the last byte that are not as they should be; false if all are. */
static bool differs(const unsigned char *bytes, size_t n, unsigned char should, size_t *first,
		    size_t *last)
{
	size_t i = 0;

	while (i < n && bytes[i] == should)
		i++;
	if (i == n)
		return false;
	*first = i;
	for (i = n - 1; bytes[i] == should; i--)
		;
	*last = i;
	return true;
}

static void look(struct debug *d, struct debug_object *o, const struct sheaf_debug_trace *here,
		 bool nowait, enum sheaf_debug_kind kind, unsigned char *bytes, size_t n,
		 unsigned char should)
{
	struct finding finding = {.kind = kind,
				  .object = o->object,
				  .of = o,
				  .here = here,
				  .nowait = nowait,
				  .count = 1};
	size_t first, last;

	if (!differs(bytes, n, should, &first, &last))
		return;
	finding.offset = bytes + first - (unsigned char *)o->object;
	finding.bytes = last - first + 1;
	finding.found = bytes + first;
	debug_report(d, &finding);
	/* Once is enough. The callback may have had it in use. */
	object_open(d, o);
	memset(bytes, should, n);
}

void zones_fill(const struct debug *d, const struct debug_object *o)
{
	memset(begin_of(o), BYTE_ZONE, o->front);
	memset((unsigned char *)o->object + d->size, BYTE_ZONE, o->back);
}

void zones_check(struct debug *d, struct debug_object *o, const struct sheaf_debug_trace *here,
		 bool nowait)
{
	look(d, o, here, nowait, SHEAF_DEBUG_WRITE_BEFORE, begin_of(o), o->front, BYTE_ZONE);
	look(d, o, here, nowait, SHEAF_DEBUG_WRITE_BEHIND, (unsigned char *)o->object + d->size,
	     o->back, BYTE_ZONE);
}

/* Is what lies in a free object the user's? */
static bool has_contents(const struct debug *d)
{
	return d->cache->ctor != NULL;
}

static bool poisons(const struct debug *d)
{
	return (d->flags & SHEAF_DEBUG_POISON) && !d->cache->stable;
}

static uint64_t sum_of(const struct debug *d, const struct debug_object *o)
{
	const unsigned char *bytes = o->object;
	uint64_t sum = UINT64_C(0x9e3779b97f4a7c15);
	size_t i;

	for (i = 0; i < d->size; i++)
		sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
	return sum;
}

void poison_fill(const struct debug *d, struct debug_object *o)
{
	if (!poisons(d))
		return;
	if (has_contents(d))
		o->sum = sum_of(d, o);
	else
		memset(o->object, BYTE_FREE, d->size);
}

void poison_check(struct debug *d, struct debug_object *o, const struct sheaf_debug_trace *here,
		  bool nowait)
{
	struct finding finding = {.kind = SHEAF_DEBUG_WRITE_AFTER_FREE,
				  .object = o->object,
				  .of = o,
				  .bytes = d->size,
				  .here = here,
				  .nowait = nowait,
				  .count = 1};

	if (!poisons(d))
		return;
	if (!has_contents(d)) {
		look(d, o, here, nowait, SHEAF_DEBUG_WRITE_AFTER_FREE, o->object, d->size,
		     BYTE_FREE);
		return;
	}
	if (o->sum == sum_of(d, o))
		return;
	debug_report(d, &finding);
	object_open(d, o);
	o->sum = sum_of(d, o);
}

void fresh_fill(const struct debug *d, const struct debug_object *o)
{
	if (poisons(d) && !has_contents(d))
		memset(o->object, BYTE_FRESH, d->size);
}
