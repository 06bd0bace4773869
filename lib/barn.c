/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A barn without locks and without ABA.
 *
 * Read cell_put() and cell_take() first.
 *
 * Each side has 64 cells and one word, `filled`, with a bit per cell:
 *
 *	            cell.sheaf   bit
 *	vacant        NULL        0
 *	arriving       S          0    a giver has put S, and will set the bit
 *	filled         S          1
 *	leaving        S          0    a taker has cleared the bit, will read S, store NULL
 *
 * A giver claims a vacant cell with CAS(cell, NULL -> S), then sets the bit. A taker
 * claims a filled cell by clearing its bit, then reads S and stores NULL. A stack
 * with a generation count in a double-width head (Concurrency Kit's ck_stack) does
 * the same with one read-modify-write less, but its pop reads the link word of a
 * sheaf that another thread may have taken and freed meanwhile: sheaves would have
 * to live in memory that is never given back, and race checkers would see the read.
 * Here nobody looks at a sheaf that it does not own.
 *
 * When all cells are taken, a sheaf goes to `chain`: pushed with CAS, emptied only as
 * a whole with an exchange, so that it has no ABA either (a push does not care what
 * the head means). Undo paths and limits above 64 end there. A taker who finds no
 * cell filled empties the chain, puts back all but a few at once, keeps the newest of them and
 * moves the others to the cells.
 *
 * Nothing is counted by a read-modify-write of its own as long as the chain is empty: a take
 * is one and a put two. What is held is read off `filled`; each cell counts the
 * sheaves that were put there, which only its owner of the moment does, by plain adding; what
 * was taken is the difference. The chain, which is visited rarely, has two counts
 * that only grow: what was pushed, before it is, and what left it, after it has.
 *
 * Invariants, at rest:
 *  I1  bit i of filled == (cells[i].sheaf != NULL)
 *  I2  chain_gives - chain_takes == length of chain
 *  I3  chain_objects == sum of the sizes of the sheaves in chain
 *  I4  sheaves of the full side have size > 0, those of the empty side size == 0
 *
 * Guarantees:
 *  G1  A sheaf that was put is taken by exactly one taker. Only the one party whose
 *      fetch_and found the bit set owns the cell, and a bit is set once per sheaf put.
 *  G2  A cell is not reused before its taker is done: the giver's CAS needs NULL, which
 *      the taker stores (release) after it has cleared the bit; the CAS acquires it.
 *      Without this edge a weakly ordered machine could order the new bit before the
 *      old clear, and the sheaf would be lost.
 *  G3  What the giver wrote is visible to the taker: set bit (release) to clear bit
 *      (acquire). Other parties' operations on the word in between are
 *      read-modify-writes and carry the release on. Chain: CAS (release) to
 *      exchange (acquire).
 *  G4  Newest first among the cells when used by one thread: givers fill the lowest vacant
 *      cell, takers empty the highest filled one. The chain comes last.
 *  G5  Lock-free: a loop goes round only when another party has won a cell or a bit.
 *  G6  The peak is never above what was held at one time. A giver reads chain_gives, then sets
 *      its bit, which also reads all the others at once, then reads chain_takes. What
 *      left the chain before the bit was set is in chain_takes: leaving the chain is
 *      counted before the sheaf is in a cell or in other hands, and a set bit (release)
 *      carries that to who sees it (acquire). So no sheaf is counted in both places.
 *  G7  A trim takes what it takes as any other taker does (G1). Which it takes is a guess by
 *      addresses: cells that hold what they held at the last trim, up to the first one that
 *      does not any more. G4 makes it a good one: takers come from above.
 *  G8  A take that returns NULL has found its side empty at one moment (`filled` 0, and no chain), or another
 *      taker had the chain in its hands, to rearrange it. What arrives is not there before its bit is set.
 *
 * fork() copies the barn with whatever others are doing to it; nobody is kept out. In the
 * child, barn_fork_child() makes I1 to I4 hold again, before anything else is done there:
 *  G9  Every sheaf that was in a cell is filled. Who put an arriving one there has done with
 *      it but for the bit. Who was taking a leaving one has not given it to anybody as
 *      long as the cell has it: the store of NULL comes first. So it is in this place only.
 *  G10 Every sheaf in the chain stays there: both its changes are one read-modify-write.
 *  G11 What is neither in a cell nor in the chain was in the hands of a thread that has
 *      vanished, and counts as taken: its own sheaf during a put or a take, or what it
 *      was moving from the chain to the cells.
 *
 * Stale reads are harmless: `filled` is only a hint which bit or cell to try;
 * a count that is off by what others are about to put or take is compared with a limit
 * that is soft.
 */
#include <sheaf/barn.h>

#include "base/atomic.h"
#include "base/compiler.h"
#include "base/probe.h"
#include "barn_fork.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

static_assert(SHEAF_BARN_CELLS == 64, "one bit of a 64-bit word per cell");
static_assert(offsetof(struct sheaf_barn_side, cells) == CACHE_LINE,
	      "the words that every trip writes share one line, cells have their own");
static_assert(sizeof(struct sheaf_barn_cell) == 32, "two cells per line, none in two lines");

/* Sheaves that a taker fetches from the chain at a time. */
#define CHAIN_TAKE 8

static uint64_t bit_of(unsigned cell)
{
	return UINT64_C(1) << cell;
}

/* One above the highest filled cell: not less than there are, and cheaper than to count. */
static uint64_t cells_bound(uint64_t filled)
{
	return filled ? 64 - (unsigned)__builtin_clzll(filled) : 0;
}

static uint64_t cells_count(uint64_t filled)
{
	return (uint64_t)__builtin_popcountll(filled);
}

static uint64_t chain_count(const struct sheaf_barn_side *side, uint64_t gives)
{
	int64_t count = (int64_t)(gives - load_relaxed(&side->chain_takes));

	return count > 0 ? (uint64_t)count : 0;
}

/* Sheaves held: exact at rest, near enough for a soft limit otherwise. */
static uint64_t side_count(const struct sheaf_barn_side *side)
{
	return cells_count(load_relaxed(&side->filled)) +
	       chain_count(side, load_relaxed(&side->chain_gives));
}

static bool side_full(const struct sheaf_barn_side *side)
{
	uint64_t chained = chain_count(side, load_relaxed(&side->chain_gives));
	uint64_t filled = load_relaxed(&side->filled);
	uint32_t limit = load_relaxed(&side->limit);

	return chained + cells_bound(filled) >= limit && chained + cells_count(filled) >= limit;
}

/* G6: filled as it was at one moment; gives from before it, takes from after it. */
static void peak_raise(struct sheaf_barn_side *side, uint64_t filled, uint64_t chain_gives)
{
	uint64_t chained = chain_count(side, chain_gives);

	if (chained + cells_bound(filled) > load_relaxed(&side->peak))
		raise_u32(&side->peak, (uint32_t)(chained + cells_count(filled)));
}

/* Links first .. last, which are linked, to the chain. */
static void chain_link(struct sheaf_barn_side *side, struct sheaf *first, struct sheaf *last)
{
	struct sheaf *head = load_relaxed(&side->chain);

	do {
		last->link = head;
		/* release: G3, partner the exchange in chain_take() */
	} while (!cas_weak_release(&side->chain, &head, first));
}

static void chain_push(struct sheaf_barn_side *side, struct sheaf *sheaf)
{
	/* release: partner sheaf_barn_stats() */
	fetch_add_release(&side->chain_objects, sheaf->size);
	chain_link(side, sheaf, sheaf);
}

/* Another party was quicker. */
static void race_lost(const struct sheaf_barn *barn, struct sheaf_barn_side *side)
{
	fetch_add_relaxed(&side->lost_races, 1);
	PROBE(barn_race, barn, barn->node, (int)(side == &barn->full));
}

/*
 * Puts a sheaf into a vacant cell and returns what is filled then, or 0 if there is no vacant
 * cell. It counts as given if it was not in the chain before.
 */
static uint64_t cell_put(const struct sheaf_barn *barn, struct sheaf_barn_side *side,
			 struct sheaf *sheaf, bool given)
{
	uint64_t vacant = ~load_relaxed(&side->filled);

	while (vacant) {
		unsigned i = (unsigned)__builtin_ctzll(vacant);
		struct sheaf_barn_cell *cell = &side->cells[i];
		struct sheaf *none = NULL;

		/* acquire: G2, partner the store of NULL in cell_take() */
		if (!load_relaxed(&cell->sheaf) && cas_acquire(&cell->sheaf, &none, sheaf)) {
			uint64_t gives = load_relaxed(&cell->gives);

			store_relaxed(&cell->gives, gives + given);
			store_relaxed(&cell->objects, sheaf->size);
			/* release: G3, partner fetch_and_acquire in cell_take(); and with
			 * acquire G6, partner itself */
			return fetch_or_acq_rel(&side->filled, bit_of(i)) | bit_of(i);
		}
		race_lost(barn, side);
		vacant &= ~bit_of(i);
	}
	return 0;
}

static void side_put(const struct sheaf_barn *barn, struct sheaf_barn_side *side,
		     struct sheaf *sheaf)
{
	uint64_t gives = load_relaxed(&side->chain_gives);
	uint64_t filled = cell_put(barn, side, sheaf, true);

	if (filled) {
		peak_raise(side, filled, gives);
		return;
	}
	gives = fetch_add_relaxed(&side->chain_gives, 1) + 1;
	/* acquire: G6, partner fetch_or_acq_rel in cell_put() */
	peak_raise(side, load_acquire(&side->filled), gives);
	chain_push(side, sheaf);
}

/* Empties the chain: all of it, linked, newest first, is the caller's, who counts each sheaf
 * in chain_takes before he lets it go. */
static struct sheaf *chain_detach(struct sheaf_barn_side *side)
{
	struct sheaf *first, *sheaf;
	uint64_t objects = 0;

	if (!load_relaxed(&side->chain))
		return NULL;
	/* acquire: G3, partner the CAS in chain_link() */
	first = exchange_acquire(&side->chain, NULL);
	for (sheaf = first; sheaf; sheaf = sheaf->link)
		objects += sheaf->size;
	fetch_sub_relaxed(&side->chain_objects, objects);
	return first;
}

/* What a taker leaves of the chain goes back at once. Its end is looked for only if somebody has
 * pushed meanwhile. */
static void chain_return(struct sheaf_barn_side *side, struct sheaf *rest)
{
	struct sheaf *none = NULL, *last;

	/* release: G3, partner the exchange in chain_take() */
	if (cas_release(&side->chain, &none, rest))
		return;
	for (last = rest; last->link; last = last->link)
		;
	chain_link(side, rest, last);
}

/*
 * Takes the newest sheaf of the chain, and moves some more to the cells. For that moment nobody else
 * finds the chain, so it is emptied, cut, and put back before anything else is done.
 */
static struct sheaf *chain_take(const struct sheaf_barn *barn, struct sheaf_barn_side *side)
{
	struct sheaf *mine, *last, *next, *sheaf;
	uint64_t objects;
	unsigned taken = 1;

	if (!load_relaxed(&side->chain))
		return NULL;
	/* acquire: G3, partner the CAS in chain_link() */
	mine = exchange_acquire(&side->chain, NULL);
	if (!mine)
		return NULL;
	objects = mine->size;
	for (last = mine; last->link && taken < CHAIN_TAKE; last = last->link, taken++)
		/* cppcheck-suppress nullPointerRedundantCheck ; the loop has looked at the link */
		objects += last->link->size;
	next = last->link;
	last->link = NULL;
	if (next)
		chain_return(side, next);
	fetch_sub_relaxed(&side->chain_objects, objects);
	fetch_add_relaxed(&side->chain_takes, 1);
	for (sheaf = mine->link; sheaf; sheaf = next) {
		next = sheaf->link;
		fetch_add_relaxed(&side->chain_takes, 1);
		if (cell_put(barn, side, sheaf, false))
			continue;
		fetch_sub_relaxed(&side->chain_takes, 1);
		chain_push(side, sheaf);
	}
	return mine;
}

/* Takes the sheaf in one cell; NULL if it is not filled. */
static struct sheaf *cell_take_at(struct sheaf_barn_side *side, unsigned i)
{
	struct sheaf_barn_cell *cell = &side->cells[i];
	struct sheaf *sheaf;

	/* acquire: G3, partner fetch_or_acq_rel in cell_put() */
	if (!(fetch_and_acquire(&side->filled, ~bit_of(i)) & bit_of(i)))
		return NULL;
	sheaf = load_relaxed(&cell->sheaf);
	/* release: G2, partner the CAS in cell_put() */
	store_release(&cell->sheaf, NULL);
	return sheaf;
}

/* Takes the sheaf in the highest filled cell; NULL if there is none. */
static struct sheaf *cell_take(const struct sheaf_barn *barn, struct sheaf_barn_side *side)
{
	struct sheaf *sheaf;
	uint64_t filled;

	while ((filled = load_relaxed(&side->filled)) != 0) {
		sheaf = cell_take_at(side, 63 - (unsigned)__builtin_clzll(filled));
		if (sheaf)
			return sheaf;
		race_lost(barn, side);
	}
	return NULL;
}

static struct sheaf *side_take(const struct sheaf_barn *barn, struct sheaf_barn_side *side)
{
	struct sheaf *sheaf = cell_take(barn, side);

	if (!sheaf)
		sheaf = chain_take(barn, side);
	if (sheaf)
		sheaf->link = NULL;
	else
		fetch_add_relaxed(&side->failed_takes, 1);
	return sheaf;
}

static int side_give(const struct sheaf_barn *barn, struct sheaf_barn_side *side,
		     struct sheaf *sheaf)
{
	int err = side_full(side) ? -ENOSPC : 0;

	PROBE(barn_give, barn, barn->node, (int)(side == &barn->full), sheaf, err);
	if (!err)
		side_put(barn, side, sheaf);
	return err;
}

static struct sheaf *take(const struct sheaf_barn *barn, struct sheaf_barn_side *side)
{
	struct sheaf *sheaf = side_take(barn, side);

	PROBE(barn_take, barn, barn->node, (int)(side == &barn->full), sheaf);
	return sheaf;
}

void sheaf_barn_init(struct sheaf_barn *barn, int node, uint32_t full_limit, uint32_t empty_limit)
{
	*barn = (struct sheaf_barn){
		.full.limit = full_limit,
		.empty.limit = empty_limit,
		.node = node,
	};
}

int sheaf_barn_fini(struct sheaf_barn *barn)
{
	return side_count(&barn->full) || side_count(&barn->empty) ? -EBUSY : 0;
}

struct sheaf *sheaf_barn_take_full(struct sheaf_barn *barn)
{
	return take(barn, &barn->full);
}

struct sheaf *sheaf_barn_take_empty(struct sheaf_barn *barn)
{
	return take(barn, &barn->empty);
}

int sheaf_barn_give_full(struct sheaf_barn *barn, struct sheaf *sheaf)
{
	return sheaf_empty(sheaf) ? -EINVAL : side_give(barn, &barn->full, sheaf);
}

int sheaf_barn_give_empty(struct sheaf_barn *barn, struct sheaf *sheaf)
{
	return sheaf_empty(sheaf) ? side_give(barn, &barn->empty, sheaf) : -EINVAL;
}

void sheaf_barn_keep(struct sheaf_barn *barn, struct sheaf *sheaf)
{
	struct sheaf_barn_side *side = sheaf_empty(sheaf) ? &barn->empty : &barn->full;

	PROBE(barn_give, barn, barn->node, (int)(side == &barn->full), sheaf, 0);
	side_put(barn, side, sheaf);
}

struct sheaf *sheaf_barn_trade_empty(struct sheaf_barn *barn, struct sheaf *empty)
{
	struct sheaf *full = side_take(barn, &barn->full);

	PROBE(barn_trade, barn, barn->node, 1, empty, full);
	if (full)
		side_put(barn, &barn->empty, empty);
	return full;
}

struct sheaf *sheaf_barn_trade_full(struct sheaf_barn *barn, struct sheaf *full)
{
	struct sheaf *empty = side_full(&barn->full) ? NULL : side_take(barn, &barn->empty);

	PROBE(barn_trade, barn, barn->node, 0, full, empty);
	if (empty)
		side_put(barn, &barn->full, full);
	return empty;
}

bool sheaf_barn_has_room(const struct sheaf_barn *barn)
{
	return !side_full(&barn->full);
}

void sheaf_barn_set_limits(struct sheaf_barn *barn, uint32_t full_limit, uint32_t empty_limit)
{
	store_relaxed(&barn->full.limit, full_limit);
	store_relaxed(&barn->empty.limit, empty_limit);
}

/* Cells one by one, the chain as a whole. */
static size_t side_drain(const struct sheaf_barn *barn, struct sheaf_barn_side *side,
			 sheaf_barn_drain_fn *fn, void *arg)
{
	struct sheaf *sheaf, *next;
	size_t n = 0;

	for (sheaf = cell_take(barn, side); sheaf; sheaf = cell_take(barn, side), n++)
		fn(arg, sheaf);
	for (sheaf = chain_detach(side); sheaf; sheaf = next, n++) {
		next = sheaf->link;
		fetch_add_relaxed(&side->chain_takes, 1);
		fn(arg, sheaf);
	}
	return n;
}

size_t sheaf_barn_drain(struct sheaf_barn *barn, sheaf_barn_drain_fn *fn, void *arg)
{
	size_t n = side_drain(barn, &barn->full, fn, arg);

	n += side_drain(barn, &barn->empty, fn, arg);
	PROBE(barn_drain, barn, barn->node, n);
	return n;
}

/* The lowest cells that hold what they held, and the chain if nothing was pushed on it; G7. */
static bool side_trim(struct sheaf_barn_side *side, const void **cells, const void **chain,
		      sheaf_barn_drain_fn *fn, void *arg)
{
	struct sheaf *sheaf = NULL, *next;
	bool any;
	unsigned i;

	if (*chain && load_relaxed(&side->chain) == *chain)
		sheaf = chain_detach(side);
	for (; sheaf; sheaf = next) {
		next = sheaf->link;
		fetch_add_relaxed(&side->chain_takes, 1);
		fn(arg, sheaf);
	}
	for (i = 0; i < SHEAF_BARN_CELLS; i++) {
		const void *held = load_relaxed(&side->cells[i].sheaf);

		if (!cells[i])
			continue; /* a gap, or it came since */
		if (held != cells[i])
			break; /* it was needed, and so were those above */
		sheaf = cell_take_at(side, i);
		if (!sheaf)
			break;
		fn(arg, sheaf);
	}
	*chain = load_relaxed(&side->chain);
	any = *chain;
	for (i = 0; i < SHEAF_BARN_CELLS; i++) {
		cells[i] = load_relaxed(&side->cells[i].sheaf);
		any |= cells[i] != NULL;
	}
	return any;
}

bool sheaf_barn_trim(struct sheaf_barn *barn, struct sheaf_barn_look *look,
		     sheaf_barn_drain_fn *fn, void *arg)
{
	bool full = side_trim(&barn->full, look->cells[0], &look->chain[0], fn, arg);

	return side_trim(&barn->empty, look->cells[1], &look->chain[1], fn, arg) || full;
}

/* All that was ever given; each cell counts its own. */
static uint64_t side_gives(const struct sheaf_barn_side *side)
{
	uint64_t gives = load_relaxed(&side->chain_gives);
	unsigned i;

	for (i = 0; i < SHEAF_BARN_CELLS; i++)
		gives += load_relaxed(&side->cells[i].gives);
	return gives;
}

/* Who put a sheaf into a cell may not have counted it: it shows where more is held than was
 * ever given. Else it is one take less. */
static void side_fork_child(struct sheaf_barn_side *side)
{
	const struct sheaf *sheaf;
	uint64_t held = 0, filled = 0, chain = 0, chained = 0, gives;
	unsigned i;

	for (i = 0; i < SHEAF_BARN_CELLS; i++) {
		sheaf = side->cells[i].sheaf;
		store_relaxed(&side->cells[i].objects, sheaf ? sheaf->size : 0);
		if (!sheaf)
			continue;
		filled |= bit_of(i);
		held++;
	}
	for (sheaf = side->chain; sheaf; sheaf = sheaf->link) {
		chained += sheaf->size;
		chain++;
	}
	store_relaxed(&side->filled, filled);
	store_relaxed(&side->chain_objects, chained);
	held += chain;
	gives = side_gives(side);
	if (gives < held)
		store_relaxed(&side->chain_gives, side->chain_gives + held - gives);
	store_relaxed(&side->chain_takes, side->chain_gives - chain);
}

void barn_fork_child(struct sheaf_barn *barn)
{
	side_fork_child(&barn->full);
	side_fork_child(&barn->empty);
}

static void side_stats(const struct sheaf_barn_side *side, struct sheaf_barn_side_stats *stats)
{
	uint64_t held = side_count(side), gives = side_gives(side);

	*stats = (struct sheaf_barn_side_stats){
		.gives = gives,
		.takes = gives > held ? gives - held : 0,
		.failed_takes = load_relaxed(&side->failed_takes),
		.lost_races = load_relaxed(&side->lost_races),
		.held = (uint32_t)held,
		.peak = load_relaxed(&side->peak),
		.limit = load_relaxed(&side->limit),
	};
}

void sheaf_barn_stats(const struct sheaf_barn *barn, struct sheaf_barn_stats *stats)
{
	/* acquire: partner the release with which a cell is filled. With it, and that of the chain, who finds
	 * an object here finds all that was done to it before. */
	uint64_t filled = load_acquire(&barn->full.filled);
	unsigned i;

	side_stats(&barn->full, &stats->full);
	side_stats(&barn->empty, &stats->empty);
	stats->objects = load_acquire(&barn->full.chain_objects);
	for (i = 0; i < SHEAF_BARN_CELLS; i++)
		if (filled & bit_of(i))
			stats->objects += load_relaxed(&barn->full.cells[i].objects);
}

static bool side_check(const struct sheaf_barn_side *side, bool full)
{
	const struct sheaf *sheaf;
	uint64_t chain = 0, chained = 0;
	unsigned i;

	for (i = 0; i < SHEAF_BARN_CELLS; i++) {
		sheaf = side->cells[i].sheaf;
		if (!!sheaf != !!(side->filled & bit_of(i)))
			return false;
		if (!sheaf)
			continue;
		if (!sheaf_check(sheaf) || sheaf_empty(sheaf) == full ||
		    side->cells[i].objects != sheaf->size)
			return false;
	}
	for (sheaf = side->chain; sheaf; sheaf = sheaf->link) {
		if (!sheaf_check(sheaf) || sheaf_empty(sheaf) == full)
			return false;
		chained += sheaf->size;
		chain++;
	}
	return side->chain_gives - side->chain_takes == chain && side->chain_objects == chained;
}

bool sheaf_barn_check(const struct sheaf_barn *barn)
{
	return side_check(&barn->full, true) && side_check(&barn->empty, false);
}
