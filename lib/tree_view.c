/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * What readers make of cursors: a copy of a window as it was at one moment, and the holes
 * between ranges.
 *
 * A snapshot is a walk during which nothing was written. The writer makes the moment odd before
 * it publishes, and even after it. A walk that met anything of a write has acquired what
 * was released after the moment became odd, so it finds the moment changed when it looks
 * again; and a write that ended before the first look is seen as a whole, for the walk began
 * after it. So if both looks find the same even moment, all of the walk is of that moment.
 */
#include "tree_node.h"

#include <errno.h>

static size_t walk(const struct sheaf_tree *tree, uint64_t first, uint64_t last,
		   struct sheaf_tree_range *ranges, size_t n)
{
	struct sheaf_tree_cursor cursor;
	size_t got = 0;
	void *entry;

	sheaf_tree_cursor_init(&cursor, tree);
	for (entry = sheaf_tree_find_rcu(&cursor, first); entry && cursor.first <= last;
	     entry = sheaf_tree_next_rcu(&cursor)) {
		if (got < n)
			ranges[got] = (struct sheaf_tree_range){cursor.first, cursor.last, entry};
		got++;
	}
	return got;
}

int sheaf_tree_snapshot_range(const struct sheaf_tree *tree, uint64_t first, uint64_t last,
			      struct sheaf_tree_range *ranges, size_t n, size_t *got,
			      unsigned retries)
{
	uint64_t moment;

	if (first > last)
		return -EINVAL;
	do {
		/* Partner: tree_moment_end(). */
		moment = load_acquire(&tree->moment);
		if (moment & 1)
			continue;
		*got = walk(tree, first, last, ranges, n);
		/* Partner: tree_moment_begin(), by what the walk has acquired. */
		if (load_relaxed(&tree->moment) == moment)
			return *got > n ? -ENOBUFS : 0;
	} while (retries--);
	return -EAGAIN;
}

void sheaf_tree_holes_init(struct sheaf_tree_holes *holes, const struct sheaf_tree *tree,
			   uint64_t first, uint64_t last)
{
	*holes = (struct sheaf_tree_holes){.from = first, .end = last, .done = first > last};
	sheaf_tree_cursor_init(&holes->cursor, tree);
}

bool sheaf_tree_hole_next_rcu(struct sheaf_tree_holes *holes)
{
	struct sheaf_tree_cursor *cursor = &holes->cursor;
	void *entry;

	while (!holes->done) {
		/* The first call finds, the others go on. */
		entry = cursor->entry ? sheaf_tree_next_rcu(cursor)
				      : sheaf_tree_find_rcu(cursor, holes->from);
		holes->first = holes->from;
		if (!entry || cursor->first > holes->end) {
			holes->last = holes->end;
			holes->done = true;
			return true;
		}
		holes->last = cursor->first - 1;
		holes->from = cursor->last + 1;
		holes->done = cursor->last >= holes->end;
		if (cursor->first > holes->first)
			return true;
	}
	return false;
}
