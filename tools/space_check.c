/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Is the rebuilt map the kernel's? Both sides are brought to one form and compared range
 * by range: first address, last address, the four letters of the permissions; ranges
 * that touch and have the same letters are one. (Which of them are one mapping inside
 * the kernel depends on files, offsets and names, and on the kernel's version.)
 *
 * One thing is taken from the kernel's side first: where it shows [stack] beginning
 * lower than the rebuilt stack does, with nothing mapped between, the stack is grown to
 * there. It grows by page faults, which no recording of calls can hold. Its end and its
 * permissions are compared like all others, and a stack that begins higher differs.
 */
#include "address_space.h"

#include <stdio.h>

/* A source of ranges in the common form. */
struct view {
	const struct trace_range *range; /* the kernel's side */
	const struct trace_range *end;
	struct sheaf_tree_cursor cursor; /* our side: range is NULL */
	const struct vma *vma;
};

struct run {
	bool any;
	uint64_t first;
	uint64_t last;
	uint8_t prot;
};

/* The range at hand, if any. */
static bool peek(const struct view *view, struct run *run)
{
	if (view->range) {
		if (view->range == view->end)
			return false;
		*run = (struct run){true, view->range->first, view->range->last, view->range->prot};
		return true;
	}
	if (!view->vma)
		return false;
	*run = (struct run){true, view->vma->first, view->vma->last, view->vma->kind.prot};
	return true;
}

static void advance(struct view *view)
{
	if (view->range)
		view->range++;
	else
		view->vma = sheaf_tree_next_rcu(&view->cursor);
}

static struct run next_run(struct view *view)
{
	struct run run = {0}, more;

	if (!peek(view, &run))
		return run;
	for (advance(view); peek(view, &more); advance(view)) {
		if (more.first != run.last + 1 || more.prot != run.prot)
			break;
		run.last = more.last;
	}
	return run;
}

static void describe(char *text, size_t bytes, const struct run *run)
{
	if (run->any)
		snprintf(text, bytes, "%llx-%llx %s", (unsigned long long)run->first,
			 (unsigned long long)run->last + 1, trace_prot_name(run->prot));
	else
		snprintf(text, bytes, "nothing more");
}

static bool compare(struct spaces *spaces, const struct address_space *space,
		    const struct trace_map *map)
{
	const struct trace_range *ranges = &spaces->trace->ranges[map->begin];
	struct view kernel = {.range = ranges, .end = ranges + map->count};
	struct view ours = {0};
	struct run a, b;
	char left[64], right[64];

	sheaf_tree_cursor_init(&ours.cursor, space->tree);
	ours.vma = sheaf_tree_find_rcu(&ours.cursor, 0);
	do {
		a = next_run(&ours);
		b = next_run(&kernel);
		if (a.any != b.any || a.first != b.first || a.last != b.last || a.prot != b.prot) {
			describe(left, sizeof(left), &a);
			describe(right, sizeof(right), &b);
			trace_fail(spaces->trace, map->line, "the map differs: rebuilt %s, kernel %s",
				   left, right);
			return false;
		}
	} while (a.any);
	return true;
}

/* See the top of the file. */
static int grow_stack(struct spaces *spaces, struct address_space *space,
		      const struct trace_map *map)
{
	const struct trace_range *range = &spaces->trace->ranges[map->begin];
	const struct trace_range *end = range + map->count;
	const struct vma *vma;
	struct piece piece;

	while (range < end && !range->stack)
		range++;
	vma = range < end ? space_find(space, range->first) : NULL;
	if (!vma || !vma->kind.stack || vma->first <= range->first)
		return 0;
	piece = (struct piece){range->first, vma->last, true, vma->kind};
	spaces->counts.stack_growths++;
	spaces->pieces.count = 0;
	if (piece_add(spaces, &spaces->pieces, piece))
		return -1;
	return space_replace(spaces, space, piece.first, piece.last);
}

int space_check(struct spaces *spaces, uint32_t id, const struct trace_event *event, bool *same)
{
	struct address_space *space = spaces->table[id];
	const struct trace_map *map = &spaces->trace->maps[event->map];
	int result;

	space_begin(space);
	result = grow_stack(spaces, space, map);
	if (result)
		return result;
	space_finish(space);
	sheaf_tree_lock(space->tree);
	*same = compare(spaces, space, map);
	sheaf_tree_unlock(space->tree);
	return 0;
}
