/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Histories of chosen addresses ("probes") of each space.
 *
 * The plan is gone through twice. The first time collects probes: the edges of every
 * range that a call names, the addresses just outside, and one inside; a fork
 * inherits those of its parent. The second time runs the flat model of shadow_flat.c
 * and notes, after each write, which probes in the range that the write touched are
 * now something else. Sorted by probe, the notes are the history:
 *
 *	probe 7f10	write 0: hole	write 4: rw-	write 9: r--	write 12: hole
 *
 * A reader that looked during writes a .. b may have seen what the probe was after a,
 * after b, or after any write between: that, and nothing else, is what
 * shadow_allows() grants. Since each write changes an address at most once (a load
 * sees the map before the write or after it), there is no further legal answer.
 */
#include "shadow.h"

#include "shadow_flat.h"

#include <stdlib.h>
#include <string.h>

/* Probes of one space; more are thinned out evenly. */
#define PROBES_MAX 4096

struct note {
	uint32_t probe;
	struct shadow_change change;
};

/* A space while its history is being made. */
struct draft {
	struct flat flat;
	uint64_t *probes;
	size_t probe_count;
	size_t probe_room;
	struct note *notes;
	size_t note_count;
	size_t note_room;
	uint8_t *state; /* per probe, now */
	uint32_t writes;
};

struct maker {
	struct shadow *shadow;
	const struct plan *plan;
	const struct trace *trace;
	struct draft *drafts;
};

static int add_probe(struct draft *draft, uint64_t address)
{
	if (draft->probe_count == draft->probe_room) {
		size_t room = draft->probe_room ? 2 * draft->probe_room : 256;
		void *larger = realloc(draft->probes, room * sizeof(address));

		if (!larger)
			return -1;
		draft->probes = larger;
		draft->probe_room = room;
	}
	draft->probes[draft->probe_count++] = address;
	return 0;
}

static int probe_range(struct draft *draft, uint64_t first, uint64_t last)
{
	/* Inside: some place that differs from range to range. */
	uint64_t inside = first + (first / 7 + last / 3) % (last - first + 1);

	return add_probe(draft, first) || add_probe(draft, last) || add_probe(draft, inside) ||
			       (first && add_probe(draft, first - 1)) ||
			       (last != UINT64_MAX && add_probe(draft, last + 1)) ?
		       -1 :
		       0;
}

static int probe_map(struct draft *draft, const struct trace *trace, const struct trace_map *map)
{
	for (size_t i = 0; i < map->count; i++)
		if (probe_range(draft, trace->ranges[map->begin + i].first,
				trace->ranges[map->begin + i].last))
			return -1;
	return 0;
}

static int probe_step(const struct maker *maker, const struct plan_step *step)
{
	struct draft *draft = &maker->drafts[step->space];
	const struct trace_event *event;

	draft->writes++;
	if (step->kind == PLAN_FORK) {
		for (size_t i = 0; i < maker->drafts[step->from].probe_count; i++)
			if (add_probe(draft, maker->drafts[step->from].probes[i]))
				return -1;
		return 0;
	}
	if (step->kind == PLAN_DROP)
		return 0;
	event = &maker->trace->events[step->event];
	if (event->map != TRACE_NO_MAP && step->kind != PLAN_CALL)
		return probe_map(draft, maker->trace, &maker->trace->maps[event->map]);
	if (event->kind == TRACE_MREMAP &&
	    probe_range(draft, event->result, event->result + event->new_len - 1))
		return -1;
	if (event->kind == TRACE_BRK)
		return add_probe(draft, event->result) || add_probe(draft, event->result - 1) ? -1 : 0;
	if (event->kind == TRACE_MMAP)
		return probe_range(draft, event->result, event->result + event->len - 1);
	return probe_range(draft, event->addr, event->addr + event->len - 1);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Sort the probes, drop doubles, thin out. */
static int settle_probes(struct draft *draft, struct shadow_space *space)
{
	size_t n = 0, stride;

	qsort(draft->probes, draft->probe_count, sizeof(*draft->probes), compare);
	for (size_t i = 0; i < draft->probe_count; i++)
		if (!n || draft->probes[n - 1] != draft->probes[i])
			draft->probes[n++] = draft->probes[i];
	stride = n / PROBES_MAX + 1;
	for (size_t i = 0; i * stride < n; i++)
		draft->probes[i] = draft->probes[i * stride];
	space->probes = draft->probes;
	space->probe_count = (uint32_t)((n + stride - 1) / stride);
	draft->probes = NULL;
	space->hot = calloc(draft->writes + 1, sizeof(*space->hot));
	draft->state = malloc(space->probe_count + 1);
	draft->writes = 0;
	return space->hot && draft->state ? 0 : -1;
}

static uint32_t probe_at(const struct shadow_space *space, uint64_t address)
{
	uint32_t low = 0, high = space->probe_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (space->probes[middle] < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Note what changed at the probes of a range in the write just made. */
static int note_range(struct draft *draft, struct shadow_space *space, uint64_t first, uint64_t last,
		      bool begin)
{
	uint32_t i = probe_at(space, first);

	if (i < space->probe_count)
		space->hot[draft->writes] = i;
	for (; i < space->probe_count && space->probes[i] <= last; i++) {
		uint8_t state = flat_state(&draft->flat, space->probes[i]);

		if (!begin && state == draft->state[i])
			continue;
		draft->state[i] = state;
		if (draft->note_count == draft->note_room) {
			size_t room = draft->note_room ? 2 * draft->note_room : 256;
			void *larger = realloc(draft->notes, room * sizeof(*draft->notes));

			if (!larger)
				return -1;
			draft->notes = larger;
			draft->note_room = room;
		}
		draft->notes[draft->note_count++] = (struct note){i, {draft->writes, state}};
	}
	return 0;
}

static int note_call(const struct maker *maker, struct draft *draft, struct shadow_space *space,
		     const struct trace_event *event)
{
	uint64_t first = event->addr, last = event->addr + event->len - 1, brk = draft->flat.brk;
	/* Growth of the stack, seen or meant, reaches beyond what the call names. */
	bool wide = event->kind == TRACE_MPROTECT &&
		    ((event->flags & TRACE_GROWSDOWN) || flat_state(&draft->flat, first) == SHADOW_HOLE);

	if (flat_call(&draft->flat, maker->trace, event))
		return -1;
	switch (event->kind) {
	case TRACE_MMAP:
		first = event->result;
		last = event->result + event->len - 1;
		break;
	case TRACE_MREMAP:
		if (note_range(draft, space, event->result, event->result + event->new_len - 1, false))
			return -1;
		break;
	case TRACE_BRK:
		if (!brk)
			return 0;
		first = brk < event->result ? brk : event->result;
		last = (brk > event->result ? brk : event->result) + maker->trace->page;
		break;
	case TRACE_ADVISE:
		return 0;
	default:
		break;
	}
	return note_range(draft, space, wide ? 0 : first, wide ? UINT64_MAX : last, false);
}

static int note_step(const struct maker *maker, const struct plan_step *step)
{
	struct draft *draft = &maker->drafts[step->space];
	struct shadow_space *space = &maker->shadow->spaces[step->space];
	const struct trace *trace = maker->trace;
	const struct trace_event *event = step->kind == PLAN_DROP ? NULL : &trace->events[step->event];
	const struct trace_map *map = NULL;

	if (step->kind == PLAN_START || step->kind == PLAN_CHECK)
		map = &trace->maps[event->map];
	switch (step->kind) {
	case PLAN_START:
		if (flat_start(&draft->flat, &trace->ranges[map->begin], map->count))
			return -1;
		return note_range(draft, space, 0, UINT64_MAX, true);
	case PLAN_FORK:
		if (flat_fork(&draft->flat, &maker->drafts[step->from].flat))
			return -1;
		return note_range(draft, space, 0, UINT64_MAX, true);
	case PLAN_CALL:
		space->writes = ++draft->writes;
		return note_call(maker, draft, space, event);
	case PLAN_CHECK:
		space->writes = ++draft->writes;
		if (flat_check(&draft->flat, &trace->ranges[map->begin], map->count))
			return -1;
		return note_range(draft, space, 0, UINT64_MAX, false);
	case PLAN_DROP:
		space->writes = ++draft->writes;
		flat_free(&draft->flat);
		return note_range(draft, space, 0, UINT64_MAX, false);
	}
	return 0;
}

/* The notes, which are in order of writes, by probe. */
static int settle_notes(struct draft *draft, struct shadow_space *space)
{
	uint32_t *next;

	space->begin = calloc((size_t)space->probe_count + 2, sizeof(*space->begin));
	space->changes = malloc((draft->note_count + 1) * sizeof(*space->changes));
	if (!space->begin || !space->changes)
		return -1;
	/* begin[i + 1] counts, then points behind, and after the loop begins probe i. */
	for (size_t i = 0; i < draft->note_count; i++)
		space->begin[draft->notes[i].probe + 2]++;
	for (uint32_t i = 2; i < space->probe_count + 2; i++)
		space->begin[i] += space->begin[i - 1];
	next = space->begin + 1;
	for (size_t i = 0; i < draft->note_count; i++)
		space->changes[next[draft->notes[i].probe]++] = draft->notes[i].change;
	return 0;
}

int shadow_make(struct shadow *shadow, const struct plan *plan, struct trace *trace)
{
	struct maker maker = {.shadow = shadow, .plan = plan, .trace = trace};
	int result = 0;

	*shadow = (struct shadow){.count = plan->spaces};
	shadow->spaces = calloc((size_t)plan->spaces + 1, sizeof(*shadow->spaces));
	maker.drafts = calloc((size_t)plan->spaces + 1, sizeof(*maker.drafts));
	if (!shadow->spaces || !maker.drafts)
		result = -1;
	for (size_t i = 0; i < plan->count && !result; i++)
		result = probe_step(&maker, &plan->steps[i]);
	for (uint32_t i = 0; i < plan->spaces && !result; i++)
		result = settle_probes(&maker.drafts[i], &shadow->spaces[i]);
	for (size_t i = 0; i < plan->count && !result; i++)
		result = note_step(&maker, &plan->steps[i]);
	for (uint32_t i = 0; i < plan->spaces && maker.drafts; i++) {
		if (!result)
			result = settle_notes(&maker.drafts[i], &shadow->spaces[i]);
		flat_free(&maker.drafts[i].flat);
		free(maker.drafts[i].probes);
		free(maker.drafts[i].notes);
		free(maker.drafts[i].state);
	}
	free(maker.drafts);
	return result ? trace_fail(trace, 0, "out of memory") : 0;
}

void shadow_free(struct shadow *shadow)
{
	for (uint32_t i = 0; i < shadow->count && shadow->spaces; i++) {
		free(shadow->spaces[i].probes);
		free(shadow->spaces[i].hot);
		free(shadow->spaces[i].begin);
		free(shadow->spaces[i].changes);
	}
	free(shadow->spaces);
	*shadow = (struct shadow){0};
}

bool shadow_allows(const struct shadow_space *space, uint32_t probe, uint32_t from, uint32_t to,
		   uint8_t state)
{
	uint32_t low = space->begin[probe], high = space->begin[probe + 1], end = high;

	/* The last change not after `from`; there is one, that of write 0. */
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;

		if (space->changes[middle].write <= from)
			low = middle;
		else
			high = middle;
	}
	for (; low < end && space->changes[low].write <= to; low++)
		if (space->changes[low].state == state)
			return true;
	return false;
}
