/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A write that stays within one leaf, and is published by one store of the leaf's live
 * word. It needs no memory, so it cannot fail. See the essay in tree.c.
 */
#include "tree_write.h"

/* New ranges of a write: what is left of one that is cut, before and behind, and between
 * them what is stored. */
struct pieces {
	uint32_t n;
	struct {
		uint64_t first;
		uint64_t last;
		void *entry;
	} piece[3];
};

static void add_piece(struct pieces *pieces, uint64_t first, uint64_t last, void *entry)
{
	pieces->piece[pieces->n].first = first;
	pieces->piece[pieces->n].last = last;
	pieces->piece[pieces->n++].entry = entry;
}

/* Unpublished slots may be looked at by readers, who then mask what they found. */
static void write_slot(struct tree_leaf *leaf, uint32_t slot, uint64_t first, uint64_t last,
		       void *entry)
{
	if (leaf->head.kind == TREE_KIND_POINTS) {
		store_relaxed(&leaf->points.key[slot], first);
		store_relaxed(&leaf->points.entry[slot], entry);
	} else {
		store_relaxed(&leaf->ranges.last[slot], last);
		store_relaxed(&leaf->ranges.first[slot], first);
		store_relaxed(&leaf->ranges.entry[slot], entry);
	}
}

/* Used slots whose range begins below a key; the others hold UINT64_MAX. */
static uint32_t rank_of(const struct tree_leaf *leaf, uint64_t first)
{
	uint32_t i, rank = 0;

	if (leaf->head.kind == TREE_KIND_POINTS) {
		unrolled
		for (i = 0; i < TREE_POINTS; i++)
			rank += leaf->points.key[i] < first;
	} else {
		unrolled
		for (i = 0; i < TREE_RANGES; i++)
			rank += leaf->ranges.first[i] < first;
	}
	return rank;
}

/* Put a slot that is not live yet into the order. */
static void enlist(struct tree_leaf *leaf, uint32_t slot, uint32_t rank)
{
	const uint64_t below = (UINT64_C(1) << (4 * rank)) - 1;
	const uint64_t order = leaf->order;

	/* Partner: whoever loads live, which names the slot later. */
	store_relaxed(&leaf->order,
		      (order & below) | (uint64_t)slot << (4 * rank) | (order & ~below) << 4);
}

void tree_leaf_fill(struct tree_leaf *leaf, const struct tree_item *item, uint32_t n)
{
	uint64_t order = TREE_ORDER_EMPTY;
	bool points = n <= TREE_POINTS;
	uint32_t i;

	for (i = 0; i < n && points; i++)
		points = item[i].first == item[i].last;
	leaf->head = (struct tree_node){
		.kind = points ? TREE_KIND_POINTS : TREE_KIND_RANGES,
		.used = (uint16_t)n,
		.count = (uint16_t)n,
		.live = (uint16_t)((1u << n) - 1),
	};
	for (i = 0; i < n; i++) {
		write_slot(leaf, i, item[i].first, item[i].last, item[i].what);
		order ^= (uint64_t)(i ^ TREE_NONE) << (4 * i);
	}
	for (; i < tree_room(leaf->head.kind); i++)
		write_slot(leaf, i, UINT64_MAX, UINT64_MAX, NULL);
	leaf->order = order;
}

/* The size of the hole that is round first .. last once the slots of @p live are. If the
 * leaf's last range was there, the hole belongs to the next leaf. */
static uint64_t hole_round(const struct tree_step *step, uint32_t live, uint64_t first,
			   uint64_t last)
{
	const struct tree_leaf *leaf = tree_leaf(step->node);
	uint64_t from = step->lo, to = step->hi;

	for (; live; live &= live - 1) {
		const uint32_t slot = (uint32_t)__builtin_ctz(live);

		if (tree_last(leaf, slot) < first && tree_last(leaf, slot) >= from)
			from = tree_last(leaf, slot) + 1;
		if (tree_first(leaf, slot) > last && tree_first(leaf, slot) <= to)
			to = tree_first(leaf, slot) - 1;
	}
	return to - from + 1;
}

void tree_lower_pivot(struct sheaf_tree *tree, const struct tree_path *path, uint32_t level,
		      uint64_t end)
{
	const struct tree_step *step = &path->step[level + 1];

	while (step->slot + 1u == step->node->count)
		step++;
	/* Partner: search() in tree_gap.c, which learns by it that a write began. Others
	 * need none; in the keys between there is nothing to be found on either way. */
	store_release(&tree_inner(step->node)->pivot[step->slot], end);
	tree->version++;
}

/* The last range of a leaf is to go, and @p live to be left: the hole will be the next one's. */
static uint64_t give_hole(struct sheaf_tree *tree, const struct tree_step *step, uint32_t live)
{
	const struct tree_leaf *leaf = tree_leaf(step->node);
	const uint64_t list = tree_order_live(leaf->order, live);
	const uint64_t end = tree_last(leaf, tree_order_at(list, leaf->head.count - 1u));

	if (tree->gaps)
		tree_gaps_widen(tree, step->hi + 1, end + 1, step->hi + 1);
	return end;
}

/* May the leaf be left with this many? */
static bool enough(const struct tree_step *step, uint32_t n)
{
	return n >= (tree_step_edge(step) ? 1 : TREE_SPARSE);
}

/* A tree without readers writes a leaf anew where it is, if that makes room. */
static void make_room(struct tree_leaf *leaf)
{
	const uint64_t list = tree_list(leaf);
	struct tree_item item[TREE_POINTS];
	const uint32_t n = leaf->head.count;
	uint32_t i;

	if (leaf->head.used == n || leaf->head.used + 3u <= tree_room(leaf->head.kind))
		return;
	for (i = 0; i < n; i++) {
		const uint32_t slot = tree_order_at(list, i);

		item[i].first = tree_first(leaf, slot);
		item[i].last = tree_last(leaf, slot);
		item[i].what = *tree_entry_at(leaf, slot);
	}
	tree_leaf_fill(leaf, item, n);
}

static void publish(struct tree_leaf *leaf, uint32_t live)
{
	/* Partner: tree_live(). The slots it names are complete, and in the order. */
	store_release(&leaf->head.live, (uint16_t)live);
}

bool tree_leaf_put(struct sheaf_tree *tree, struct tree_leaf *leaf, uint64_t key, void *entry)
{
	const uint32_t slot = leaf->head.used;

	if (slot == TREE_POINTS)
		return false;
	enlist(leaf, slot, rank_of(leaf, key));
	write_slot(leaf, slot, key, key, entry);
	leaf->head.used++;
	leaf->head.count++;
	publish(leaf, leaf->head.live | 1u << slot);
	tree->entries++;
	return true;
}

/* The size of the hole where the range of a slot will have been: from the live one before it
 * in the order to the one behind it. */
static uint64_t hole_at(const struct tree_step *step, uint32_t slot)
{
	const struct tree_leaf *leaf = tree_leaf(step->node);
	const uint64_t ones = UINT64_C(0x1111111111111111);
	/* Zero in 4 bits where the order has the slot; the lowest such place is marked. */
	const uint64_t same = leaf->order ^ slot * ones;
	const uint32_t place = (uint32_t)__builtin_ctzll((same - ones) & ~same & 8 * ones) / 4;
	uint32_t i, live = leaf->head.live;
	uint64_t from = step->lo, to = step->hi;

	for (i = place; i-- > 0;) {
		slot = tree_order_at(leaf->order, i);
		if (live >> slot & 1) {
			from = tree_last(leaf, slot) + 1;
			break;
		}
	}
	for (i = place + 1; (slot = tree_order_at(leaf->order, i)) != TREE_NONE; i++)
		if (live >> slot & 1) {
			to = tree_first(leaf, slot) - 1;
			break;
		}
	return to - from + 1;
}

enum tree_tried tree_leaf_erase(struct sheaf_tree *tree, const struct tree_path *path,
				uint32_t slot)
{
	const struct tree_step *step = &path->step[0];
	struct tree_leaf *leaf = tree_leaf(step->node);
	const bool ended = tree_last(leaf, slot) == step->hi && !tree_step_edge(step);
	const uint32_t live = leaf->head.live & ~(1u << slot);
	uint64_t end = 0;

	if (!enough(step, leaf->head.count - 1u))
		return TREE_ELSEWHERE;
	leaf->head.count--;
	if (ended)
		end = give_hole(tree, step, live);
	else if (tree->gaps)
		tree_gaps_raise(tree, path, 1, hole_at(step, slot));
	publish(leaf, live);
	tree->entries--;
	if (ended)
		tree_lower_pivot(tree, path, 0, end);
	return TREE_CHANGED;
}

enum tree_tried tree_leaf_store(struct sheaf_tree *tree, const struct tree_path *path,
				uint64_t first, uint64_t last, void *entry)
{
	const struct tree_step *step = &path->step[0];
	struct tree_leaf *leaf = tree_leaf(step->node);
	struct pieces pieces = {.n = 0};
	uint32_t found, live, slot, i, gone = 0;
	uint64_t end = 0;
	bool ended = false;

	if (last > step->hi)
		return TREE_ELSEWHERE;
	if (!tree->readers)
		make_room(leaf);
	found = tree_leaf_find(leaf, leaf->head.live, first, last);
	if (!found && !entry)
		return TREE_UNCHANGED;
	if (leaf->head.kind == TREE_KIND_POINTS) {
		if (entry && first != last)
			return TREE_ELSEWHERE;
		if (!found)
			return tree_leaf_put(tree, leaf, first, entry) ? TREE_CHANGED
								       : TREE_ELSEWHERE;
	}
	if (found && entry && !(found & (found - 1))) {
		slot = (uint32_t)__builtin_ctz(found);
		if (tree_first(leaf, slot) == first && tree_last(leaf, slot) == last) {
			/* Partner: tree_entry(). Publishes what the caller wrote to the entry. */
			store_release(tree_entry_at(leaf, slot), entry);
			return TREE_CHANGED;
		}
	}
	if (entry)
		add_piece(&pieces, first, last, entry);
	for (live = found; live; live &= live - 1, gone++) {
		slot = (uint32_t)__builtin_ctz(live);
		if (tree_first(leaf, slot) < first)
			add_piece(&pieces, tree_first(leaf, slot), first - 1,
				  *tree_entry_at(leaf, slot));
		if (tree_last(leaf, slot) > last)
			add_piece(&pieces, last + 1, tree_last(leaf, slot),
				  *tree_entry_at(leaf, slot));
		else if (tree_last(leaf, slot) == step->hi && !entry)
			ended = !tree_step_edge(step);
	}
	if (leaf->head.count - gone + pieces.n > tree_room(leaf->head.kind) ||
	    !enough(step, leaf->head.count - gone + pieces.n))
		return TREE_ELSEWHERE;
	if (leaf->head.used + pieces.n > tree_room(leaf->head.kind))
		return TREE_ELSEWHERE;
	live = leaf->head.live & ~found;
	for (i = 0; i < pieces.n; i++) {
		slot = leaf->head.used++;
		enlist(leaf, slot, rank_of(leaf, pieces.piece[i].first));
		write_slot(leaf, slot, pieces.piece[i].first, pieces.piece[i].last,
			   pieces.piece[i].entry);
		live |= 1u << slot;
	}
	leaf->head.count = (uint16_t)(leaf->head.count - gone + pieces.n);
	if (ended)
		end = give_hole(tree, step, live);
	else if (!entry && tree->gaps)
		tree_gaps_raise(tree, path, 1, hole_round(step, live, first, last));
	publish(leaf, live);
	tree->entries += pieces.n;
	tree->entries -= gone;
	if (ended)
		tree_lower_pivot(tree, path, 0, end);
	return TREE_CHANGED;
}
