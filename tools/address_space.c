/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Address spaces: VMA objects in trees, changed under the eyes of readers.
 *
 * A VMA is immutable while it can be found. To cut a mapping in two, the writer stores
 * new objects for the parts that stay and for the part that changes, each over its own
 * range, and then retires the old object:
 *
 *	before	|---------------- A ----------------|
 *	store	|--- B ---|	A	  |-- C --|	   the parts that stay
 *	store	|--- B ---|----- D -------|-- C --|	   or a hole for D
 *	retire	A
 *
 * Objects come from a prefilled sheaf and nodes from a prepared one, both taken before
 * the first store: past that point a call cannot fail half way. A change of a single
 * range needs neither, because one store is all or nothing by itself.
 *
 * What readers may rely on, and are checked for (replay_readers.c). Writes of a space are
 * numbered; `begun` is raised before the first store of a write and `finished` after
 * its last retirement.
 *  G1  A load gives what the address was after some write n with
 *      finished(before the load) <= n <= begun(after the load). For: a store is one
 *      moment, and no write takes an address through a third state.
 *  G2  The object found holds the address, is of this space, and was made by a write
 *      that had begun.
 *  G3  If it is retired, then by a write that had not finished before the load:
 *      `retired` is stamped after the object left the tree and before `finished`.
 *  G4  Until the read section ends nobody reuses it: first, last, space and born stay.
 *  G5  The space itself is freed only when a ticket taken after it left the table has
 *      elapsed.
 *
 * Edges: `begun` -> store in the tree (release) -> load (acquire) -> `begun`: whoever
 * sees the effect of a write sees that it has begun. `finished` (release) -> `finished`
 * (acquire): whoever sees it sees the whole write.
 *
 * A dropped space is emptied by one last write, then leaves the table, and waits for its
 * ticket in the list of the dead, which each drop and each start looks through.
 *
 * Read first: space_replace(), commit().
 */
#include "address_space.h"

#include "base/atomic.h"

#include <errno.h>
#include <stdlib.h>

/* Writes that are prepared at one time. */
#define BATCH 256

static int no_memory(struct spaces *spaces)
{
	return trace_fail(spaces->trace, 0, "out of memory");
}

int spaces_init(struct spaces *spaces, struct sheaf_gp *gp, struct trace *trace, uint32_t count)
{
	struct sheaf_cache_attr attr = {.size = sizeof(attr), .object_size = sizeof(struct vma),
					.name = "vma", .gp = gp};

	*spaces = (struct spaces){.gp = gp, .trace = trace, .count = count};
	spaces->table = calloc((size_t)count + 1, sizeof(*spaces->table));
	if (!spaces->table || sheaf_cache_create(&spaces->vmas, &attr) ||
	    sheaf_tree_nodes_create(&spaces->nodes, gp)) {
		spaces_fini(spaces);
		return trace_fail(trace, 0, "out of memory");
	}
	return 0;
}

/* Add the counters of a tree that is about to go. */
static void count_tree(struct spaces *spaces, struct sheaf_tree *tree)
{
	struct sheaf_tree_stats stats;

	sheaf_tree_stats(tree, &stats);
	spaces->counts.nodes_made += stats.nodes_made;
	spaces->counts.nodes_retired += stats.nodes_retired;
	spaces->counts.tree_writes += stats.writes;
}

/* Free the dead whose ticket has elapsed. */
static void reap(struct spaces *spaces)
{
	struct address_space **at = &spaces->dead, *space;

	while ((space = *at)) {
		if (!sheaf_gp_elapsed(spaces->gp, space->ticket)) {
			at = &space->next;
			continue;
		}
		*at = space->next;
		count_tree(spaces, space->tree);
		sheaf_tree_destroy(space->tree);
		free(space);
	}
}

int spaces_settle(struct spaces *spaces)
{
	for (const struct address_space *space = spaces->dead; space; space = space->next)
		if (sheaf_gp_wait(spaces->gp, space->ticket))
			return trace_fail(spaces->trace, 0, "the grace-period source does not answer");
	reap(spaces);
	if (sheaf_cache_barrier(spaces->vmas) || sheaf_cache_barrier(spaces->nodes))
		return trace_fail(spaces->trace, 0, "the grace-period source does not answer");
	return 0;
}

size_t spaces_fini(struct spaces *spaces)
{
	size_t lost = 0, live = 0;

	for (uint32_t i = 0; i < spaces->count && spaces->table; i++)
		if (spaces->table[i] && space_drop(spaces, i))
			lost++;
	if (spaces->dead && spaces_settle(spaces))
		lost++;
	if (spaces->vmas && sheaf_cache_destroy(spaces->vmas, &live))
		lost += live;
	if (spaces->nodes && sheaf_cache_destroy(spaces->nodes, &live))
		lost += live;
	free(spaces->table);
	free(spaces->pieces.at);
	free(spaces->plan.at);
	free(spaces->removed);
	*spaces = (struct spaces){.counts = spaces->counts};
	return lost;
}

void space_begin(struct address_space *space)
{
	/* release, with those of the tree: partner load_acquire of begun in the readers */
	store_release(&space->begun, space->begun + 1);
}

void space_finish(struct address_space *space)
{
	/* release: partner load_acquire of finished in the readers; publishes the write */
	store_release(&space->finished, space->begun);
}

const struct vma *space_find(const struct address_space *space, uint64_t address)
{
	struct sheaf_tree_cursor cursor;
	const struct vma *vma;

	sheaf_tree_lock(space->tree);
	sheaf_tree_cursor_init(&cursor, space->tree);
	vma = sheaf_tree_find_rcu(&cursor, address);
	sheaf_tree_unlock(space->tree);
	return vma;
}

bool space_is_free(const struct address_space *space, uint64_t first, uint64_t last)
{
	const struct vma *vma = space_find(space, first);

	return !vma || vma->first > last;
}

static bool same_kind(const struct vma_kind *a, const struct vma_kind *b)
{
	return a->prot == b->prot && a->anonymous == b->anonymous && a->nofork == b->nofork &&
	       a->stack == b->stack;
}

int piece_add(struct spaces *spaces, struct piece_list *list, struct piece piece)
{
	struct piece *last = list->count ? &list->at[list->count - 1] : NULL;

	if (last && last->last + 1 == piece.first && last->mapped == piece.mapped &&
	    (!piece.mapped || (piece.kind.anonymous && same_kind(&last->kind, &piece.kind)))) {
		last->last = piece.last;
		return 0;
	}
	if (list->count == list->room) {
		size_t room = list->room ? 2 * list->room : 16;
		void *larger = realloc(list->at, room * sizeof(piece));

		if (!larger)
			return no_memory(spaces);
		list->at = larger;
		list->room = room;
	}
	list->at[list->count++] = piece;
	return 0;
}

static int add_removed(struct spaces *spaces, struct vma *vma)
{
	if (spaces->removed_count == spaces->removed_room) {
		size_t room = spaces->removed_room ? 2 * spaces->removed_room : 16;
		void *larger = realloc(spaces->removed, room * sizeof(vma));

		if (!larger)
			return no_memory(spaces);
		spaces->removed = larger;
		spaces->removed_room = room;
	}
	spaces->removed[spaces->removed_count++] = vma;
	return 0;
}

/* A new object for a piece. */
static struct vma *make_vma(struct spaces *spaces, const struct address_space *space,
			    const struct piece *piece, struct sheaf *prefilled)
{
	struct vma *vma = prefilled ? sheaf_cache_alloc_from(spaces->vmas, prefilled) :
				      sheaf_cache_alloc(spaces->vmas, 0);
	uint64_t live;

	if (!vma)
		return NULL;
	*vma = (struct vma){.first = piece->first, .last = piece->last, .space = space->id,
			    .born = space->begun, .retired = VMA_LIVE, .kind = piece->kind};
	live = ++spaces->counts.vmas_made - spaces->counts.vmas_retired;
	if (live > spaces->counts.vmas_peak)
		spaces->counts.vmas_peak = live;
	return vma;
}

/* One store: all or nothing by itself. */
static int commit_one(struct spaces *spaces, struct address_space *space, const struct piece *piece)
{
	struct vma *vma = NULL;

	if (piece->mapped) {
		vma = make_vma(spaces, space, piece, NULL);
		if (!vma)
			return no_memory(spaces);
	}
	if (!sheaf_tree_store(space->tree, piece->first, piece->last, vma))
		return 0;
	if (vma) {
		spaces->counts.vmas_made--;
		sheaf_cache_free(spaces->vmas, vma);
	}
	return no_memory(spaces);
}

/* Store @count pieces, with everything they need at hand before the first. */
static int commit(struct spaces *spaces, struct address_space *space, const struct piece *pieces,
		  uint32_t count)
{
	struct sheaf *prefilled = NULL;
	struct sheaf_tree_prep prep;
	uint32_t objects = 0;
	int error = 0;

	if (count == 1)
		return commit_one(spaces, space, pieces);
	for (uint32_t i = 0; i < count; i++)
		objects += pieces[i].mapped;
	if (objects) {
		prefilled = sheaf_cache_prefill(spaces->vmas, objects, SHEAF_STRICT);
		if (!prefilled)
			return no_memory(spaces);
	}
	if (sheaf_tree_prepare(space->tree, &prep, count)) {
		sheaf_cache_return(spaces->vmas, prefilled);
		return no_memory(spaces);
	}
	sheaf_tree_lock(space->tree);
	for (uint32_t i = 0; i < count && !error; i++)
		error = sheaf_tree_store_locked(space->tree, &prep, pieces[i].first, pieces[i].last,
						pieces[i].mapped ? make_vma(spaces, space, &pieces[i],
									    prefilled) : NULL);
	sheaf_tree_unlock(space->tree);
	sheaf_tree_finish(space->tree, &prep);
	sheaf_cache_return(spaces->vmas, prefilled);
	return error ? trace_fail(spaces->trace, 0, "a prepared store failed (%d)", error) : 0;
}

/*
 * Let a piece swallow what touches it and is alike, as the kernel merges mappings. Not
 * what this write cuts already: its parts are in the plan.
 */
static int absorb(struct spaces *spaces, struct address_space *space, struct piece *piece, bool left)
{
	uint64_t beside = left ? piece->first - 1 : piece->last + 1;
	const struct vma *vma;

	if (!piece->mapped || !piece->kind.anonymous)
		return 0;
	vma = space_find(space, beside);
	if (!vma || vma->first > beside || !same_kind(&vma->kind, &piece->kind))
		return 0;
	for (size_t i = 0; i < spaces->removed_count; i++)
		if (spaces->removed[i] == vma)
			return 0;
	if (left)
		piece->first = vma->first;
	else
		piece->last = vma->last;
	return add_removed(spaces, (struct vma *)vma);
}

/* Note what overlaps [first, last] as removed; what sticks out of it is to be kept. */
static int cut_out(struct spaces *spaces, struct address_space *space, uint64_t first, uint64_t last)
{
	struct sheaf_tree_cursor cursor;
	struct vma *vma;
	int error = 0;

	sheaf_tree_lock(space->tree);
	sheaf_tree_cursor_init(&cursor, space->tree);
	for (vma = sheaf_tree_find_rcu(&cursor, first); vma && vma->first <= last && !error;
	     vma = sheaf_tree_next_rcu(&cursor)) {
		struct piece left = {vma->first, first - 1, true, vma->kind};
		struct piece right = {last + 1, vma->last, true, vma->kind};

		error = add_removed(spaces, vma) ||
			(vma->first < first && piece_add(spaces, &spaces->plan, left)) ||
			(vma->last > last && piece_add(spaces, &spaces->plan, right));
	}
	sheaf_tree_unlock(space->tree);
	return error ? -1 : 0;
}

/* The plan of a write: the parts that stay, then the range from end to end. */
static int make_plan(struct spaces *spaces, struct address_space *space, uint64_t first, uint64_t last)
{
	struct piece_list *plan = &spaces->plan;
	const struct piece *piece = spaces->pieces.at, *end = piece + spaces->pieces.count;
	size_t main;
	uint64_t at = first;

	plan->count = 0;
	spaces->removed_count = 0;
	if (cut_out(spaces, space, first, last))
		return -1;
	if (piece == end && !spaces->removed_count)
		return 0;
	main = plan->count;
	for (; piece < end; at = piece->last + 1, piece++) {
		struct piece hole = {.first = at, .last = piece->first - 1};

		if ((piece->first > at && piece_add(spaces, plan, hole)) || piece_add(spaces, plan, *piece))
			return -1;
	}
	if (at <= last && piece_add(spaces, plan, (struct piece){.first = at, .last = last}))
		return -1;
	return (main < plan->count && absorb(spaces, space, &plan->at[main], true)) ||
	       absorb(spaces, space, &plan->at[plan->count - 1], false) ? -1 : 0;
}

int space_replace(struct spaces *spaces, struct address_space *space, uint64_t first, uint64_t last)
{
	const struct piece_list *plan = &spaces->plan;

	if (make_plan(spaces, space, first, last))
		return -1;
	for (size_t at = 0; at < plan->count; at += BATCH) {
		size_t count = plan->count - at < BATCH ? plan->count - at : BATCH;

		if (commit(spaces, space, &plan->at[at], (uint32_t)count))
			return -1;
	}
	for (size_t i = 0; i < spaces->removed_count; i++) {
		struct vma *vma = spaces->removed[i];

		/* release: partner load_acquire in the readers; after it left the tree */
		store_release(&vma->retired, space->begun);
		sheaf_cache_free_rcu(spaces->vmas, vma);
	}
	spaces->counts.vmas_retired += spaces->removed_count;
	return 0;
}

/* A space with an empty tree, not in the table yet. */
static struct address_space *new_space(struct spaces *spaces, uint32_t id)
{
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = spaces->gp, .nodes = spaces->nodes,
				       .flags = SHEAF_TREE_GAPS};
	struct address_space *space = aligned_alloc(64, (sizeof(*space) + 63) & ~(size_t)63);

	reap(spaces);
	if (!space) {
		no_memory(spaces);
		return NULL;
	}
	*space = (struct address_space){.id = id};
	if (sheaf_tree_create(&space->tree, &attr)) {
		free(space);
		no_memory(spaces);
		return NULL;
	}
	return space;
}

/* Fill a new space with spaces->pieces as its write 0, and show it to the readers. */
static int publish(struct spaces *spaces, struct address_space *space)
{
	const struct piece_list *pieces = &spaces->pieces;

	for (size_t at = 0; at < pieces->count; at += BATCH) {
		size_t count = pieces->count - at < BATCH ? pieces->count - at : BATCH;

		if (commit(spaces, space, &pieces->at[at], (uint32_t)count)) {
			/* In the table all the same, so that space_drop() can clear it up. */
			store_release(&spaces->table[space->id], space);
			return -1;
		}
	}
	/* release: partner load_acquire of the table in the readers */
	store_release(&spaces->table[space->id], space);
	return 0;
}

int space_start(struct spaces *spaces, uint32_t id, const struct trace_map *map)
{
	struct address_space *space = new_space(spaces, id);

	if (!space)
		return -1;
	spaces->pieces.count = 0;
	for (size_t i = 0; i < map->count; i++) {
		const struct trace_range *range = &spaces->trace->ranges[map->begin + i];
		struct piece piece = {range->first, range->last, true,
				      {.prot = range->prot, .anonymous = range->stack,
				       .stack = range->stack}};

		/* The loader is mapped at the top of the room for mmap, below the stack. */
		if (range->stack && i)
			space->mmap_base = spaces->trace->ranges[map->begin + i - 1].last + 1;
		if (piece_add(spaces, &spaces->pieces, piece)) {
			sheaf_tree_destroy(space->tree);
			free(space);
			return -1;
		}
	}
	return publish(spaces, space);
}

int space_fork(struct spaces *spaces, uint32_t id, uint32_t from)
{
	const struct address_space *parent = spaces->table[from];
	struct address_space *space = new_space(spaces, id);
	struct sheaf_tree_cursor cursor;
	int error = 0;

	if (!space)
		return -1;
	space->brk = parent->brk;
	space->mmap_base = parent->mmap_base;
	spaces->pieces.count = 0;
	sheaf_tree_lock(parent->tree);
	sheaf_tree_cursor_init(&cursor, parent->tree);
	for (const struct vma *vma = sheaf_tree_find_rcu(&cursor, 0); vma && !error;
	     vma = sheaf_tree_next_rcu(&cursor))
		if (!vma->kind.nofork)
			error = piece_add(spaces, &spaces->pieces,
					  (struct piece){vma->first, vma->last, true, vma->kind});
	sheaf_tree_unlock(parent->tree);
	if (error) {
		sheaf_tree_destroy(space->tree);
		free(space);
		return -1;
	}
	return publish(spaces, space);
}

int space_drop(struct spaces *spaces, uint32_t id)
{
	struct address_space *space = spaces->table[id];
	int result;

	space_begin(space);
	spaces->pieces.count = 0;
	result = space_replace(spaces, space, 0, UINT64_MAX);
	space_finish(space);
	store_release(&spaces->table[id], NULL);
	space->ticket = sheaf_gp_ticket(spaces->gp);
	space->next = spaces->dead;
	spaces->dead = space;
	reap(spaces);
	return result;
}
