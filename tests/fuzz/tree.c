/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Plays bytes as calls of a range tree, and beside them on a sorted array. After each call
 * all invariants hold, and what it returned is what the array says; in the end both are
 * equal, and no node is lost. The first byte chooses a gap index, readers or none, and the
 * capacity of sheaves; then each call is a byte for what it is, and its arguments.
 */
#include "fuzz.h"
#include "oracle.h"

#include <errno.h>
#include <string.h>

/* Inputs are cut after this many calls: the invariants of the whole tree are looked at each time. */
#define CALLS_MOST 4096

const unsigned fuzz_kinds = 29;
uint64_t fuzz_played;

struct game {
	struct fuzz_input in;
	struct sheaf_gp_manual gp;
	struct sheaf_cache *nodes;
	struct sheaf_tree *tree;
	struct oracle oracle;
	/* Writes by cursor; stands where the last one left it. */
	struct sheaf_tree_cursor cursor;
	unsigned flags;
	/* Objects that the backend has out, and those that it will still hand out. */
	size_t out;
	size_t budget;
};

static size_t game_alloc(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	struct game *game = ctx;
	size_t got;

	(void)node;
	(void)flags;
	for (got = 0; got < n && game->budget; got++) {
		objects[got] = aligned_alloc(64, SHEAF_TREE_NODE_BYTES);
		if (!objects[got])
			break;
		memset(objects[got], 0xa5, SHEAF_TREE_NODE_BYTES);
		game->budget--;
		game->out++;
	}
	return got;
}

static void game_free(void *ctx, size_t n, void *const *objects)
{
	struct game *game = ctx;
	size_t i;

	for (i = 0; i < n; i++)
		free(objects[i]);
	game->out -= n;
}

static const struct sheaf_backend_ops game_backend = {
	.name = "fuzz", .alloc_bulk = game_alloc, .free_bulk = game_free};

/* Three kinds of keys: few, many, and next to the ends of all. */
static uint64_t key(struct game *game)
{
	const uint8_t kind = fuzz_byte(&game->in);

	if (kind < 0xc0)
		return kind;
	if (kind < 0xf0)
		return fuzz_number(&game->in, 2);
	if (kind < 0xf8)
		return UINT64_MAX - fuzz_byte(&game->in);
	return fuzz_number(&game->in, 8);
}

static void keys(struct game *game, uint64_t *first, uint64_t *last)
{
	uint64_t length;

	*first = key(game);
	length = key(game);
	*last = length > UINT64_MAX - *first ? UINT64_MAX : *first + length;
}

/* Never NULL, and of any bits. */
static void *entry(struct game *game)
{
	return (void *)(uintptr_t)(fuzz_byte(&game->in) + UINT64_C(1));
}

static const struct oracle_range *oracle_range_of(const struct game *game, uint64_t at)
{
	const size_t i = oracle_at(&game->oracle, at);

	return i < game->oracle.n && game->oracle.range[i].first <= at ? &game->oracle.range[i]
								       : NULL;
}

static bool taken(const struct game *game, uint64_t first, uint64_t last)
{
	const size_t i = oracle_at(&game->oracle, first);

	return i < game->oracle.n && game->oracle.range[i].first <= last;
}

/* A write that could not get memory has changed nothing, and is not made up for. */
static bool done(struct game *game, int err, int want)
{
	if (err == -ENOMEM) {
		fuzz_check(game->budget != SIZE_MAX);
		return false;
	}
	fuzz_check(err == want);
	return !err;
}

static void store(struct game *game, bool erase)
{
	uint64_t first, last;
	void *what;

	keys(game, &first, &last);
	what = erase ? NULL : entry(game);
	if (done(game, sheaf_tree_store(game->tree, first, last, what), 0))
		oracle_store(&game->oracle, first, last, what);
}

static void store_point(struct game *game)
{
	const uint64_t at = key(game);
	void *what = entry(game);

	if (done(game, sheaf_tree_store(game->tree, at, at, what), 0))
		oracle_store(&game->oracle, at, at, what);
}

static void erase_range(struct game *game)
{
	uint64_t first, last;

	keys(game, &first, &last);
	if (done(game, sheaf_tree_erase_range(game->tree, first, last), 0))
		oracle_store(&game->oracle, first, last, NULL);
}

static void insert(struct game *game, bool locked)
{
	uint64_t first, last;
	void *what;
	int err;

	keys(game, &first, &last);
	what = entry(game);
	if (locked) {
		sheaf_tree_lock(game->tree);
		err = sheaf_tree_insert_locked(game->tree, NULL, first, last, what);
		sheaf_tree_unlock(game->tree);
	} else {
		err = sheaf_tree_insert(game->tree, first, last, what);
	}
	if (done(game, err, taken(game, first, last) ? -EEXIST : 0))
		oracle_store(&game->oracle, first, last, what);
}

static void erase_key(struct game *game, bool locked)
{
	const uint64_t at = key(game);
	const struct oracle_range *range = oracle_range_of(game, at);
	void *old = NULL;
	int err;

	if (locked) {
		sheaf_tree_lock(game->tree);
		err = sheaf_tree_erase_locked(game->tree, NULL, at, &old);
		sheaf_tree_unlock(game->tree);
	} else {
		err = sheaf_tree_erase(game->tree, at, &old);
	}
	if (!done(game, err, range ? 0 : -ENOENT))
		return;
	fuzz_check(old == range->entry);
	oracle_store(&game->oracle, range->first, range->last, NULL);
}

static void cursor_store(struct game *game, bool range, bool locked)
{
	uint64_t first, last;
	void *what;
	int err;

	keys(game, &first, &last);
	if (!range)
		last = first;
	what = entry(game);
	if (locked) {
		sheaf_tree_lock(game->tree);
		err = sheaf_tree_cursor_store_locked(&game->cursor, first, last, what);
		sheaf_tree_unlock(game->tree);
	} else {
		err = sheaf_tree_cursor_store(&game->cursor, first, last, what);
	}
	if (!done(game, err, 0))
		return;
	oracle_store(&game->oracle, first, last, what);
	fuzz_check(game->cursor.first == first && game->cursor.entry == what);
}

/* Above all that is there: what sorted input does. */
static void cursor_append(struct game *game)
{
	const size_t n = game->oracle.n;
	uint64_t at = n ? game->oracle.range[n - 1].last : 0;
	uint8_t many = fuzz_byte(&game->in) % 32;

	for (; many && at < UINT64_MAX - 8; many--) {
		at += 1 + many % 3;
		if (!done(game, sheaf_tree_cursor_store(&game->cursor, at, at, game), 0))
			return;
		oracle_store(&game->oracle, at, at, game);
	}
}

static void cursor_erase(struct game *game)
{
	const uint64_t at = key(game);
	const size_t i = oracle_at(&game->oracle, at);
	int err;

	sheaf_tree_lock(game->tree);
	sheaf_tree_find_rcu(&game->cursor, at);
	err = sheaf_tree_cursor_erase_locked(&game->cursor);
	sheaf_tree_unlock(game->tree);
	if (done(game, err, i < game->oracle.n ? 0 : -ENOENT))
		oracle_store(&game->oracle, game->oracle.range[i].first, game->oracle.range[i].last,
			     NULL);
	else
		sheaf_tree_cursor_pause(&game->cursor);
}

static void load(struct game *game)
{
	const uint64_t at = key(game);

	fuzz_check(sheaf_tree_load(game->tree, at) == oracle_load(&game->oracle, at));
}

/* Find, then steps up and down, with pauses; a bit each. */
static void walk(struct game *game)
{
	const uint64_t from = key(game);
	uint64_t steps = fuzz_number(&game->in, 2);
	size_t at = oracle_at(&game->oracle, from);
	struct sheaf_tree_cursor cursor;
	void *got;

	sheaf_tree_cursor_init(&cursor, game->tree);
	got = sheaf_tree_find_rcu(&cursor, from);
	for (; steps; steps >>= 2) {
		if (at == game->oracle.n || at == SIZE_MAX) {
			fuzz_check(!got);
		} else {
			const struct oracle_range *range = &game->oracle.range[at];

			fuzz_check(got == range->entry && cursor.first == range->first &&
				   cursor.last == range->last);
		}
		if (steps & 2)
			sheaf_tree_cursor_pause(&cursor);
		if (steps & 1) {
			got = sheaf_tree_next_rcu(&cursor);
			at += at != game->oracle.n;
		} else {
			got = sheaf_tree_prev_rcu(&cursor);
			at -= at != SIZE_MAX;
		}
	}
}

static struct sheaf_tree_gap gap(struct game *game)
{
	struct sheaf_tree_gap g = {.min = key(game)};
	uint8_t how;

	g.max = key(game);
	g.size = key(game);
	how = fuzz_byte(&game->in);
	g.highest = how & 1;
	if (how & 2) {
		g.align = UINT64_C(1) << how / 4;
		g.offset = key(game) & (g.align - 1);
	}
	return g;
}

static int gap_want(const struct game *game, const struct sheaf_tree_gap *g, uint64_t *at)
{
	if (!g->size || g->min > g->max)
		return -EINVAL;
	return oracle_gap(&game->oracle, g, at);
}

static void find_gap(struct game *game)
{
	const struct sheaf_tree_gap g = gap(game);
	uint64_t at = 1, as_reader = 1, want = 1;
	const int err = gap_want(game, &g, &want);

	fuzz_check(sheaf_tree_gap_rcu(game->tree, &g, &as_reader) == err && as_reader == want);
	fuzz_check(sheaf_tree_gap_locked(game->tree, &g, &at) == err && at == want);
}

/* By the calls that take no struct. */
static void find_end_gap(struct game *game)
{
	struct sheaf_tree_gap g = gap(game);
	uint64_t at = 1, locked = 1, want = 1;
	int err, got, got_locked;

	g.offset = 0;
	err = gap_want(game, &g, &want);
	got = (g.highest ? sheaf_tree_highest_gap : sheaf_tree_lowest_gap)(game->tree, g.min, g.max,
									   g.size, g.align, &at);
	sheaf_tree_lock(game->tree);
	got_locked = (g.highest ? sheaf_tree_highest_gap_locked : sheaf_tree_lowest_gap_locked)(
		game->tree, g.min, g.max, g.size, g.align, &locked);
	sheaf_tree_unlock(game->tree);
	fuzz_check(got == err && got_locked == err);
	fuzz_check(at == want && locked == want);
}

static void store_gap(struct game *game, bool locked)
{
	const struct sheaf_tree_gap g = gap(game);
	uint64_t at = 1, want = 1;
	void *what = entry(game);
	const int want_err = gap_want(game, &g, &want);
	int err;

	if (locked) {
		sheaf_tree_lock(game->tree);
		err = sheaf_tree_store_gap_locked(game->tree, NULL, &g, what, &at);
		sheaf_tree_unlock(game->tree);
	} else {
		err = sheaf_tree_store_gap(game->tree, &g, what, &at);
	}
	if (!done(game, err, want_err)) {
		fuzz_check(at == 1);
		return;
	}
	fuzz_check(at == want);
	oracle_store(&game->oracle, at, at + (g.size - 1), what);
}

/* Some writes of one prepare, none of which may fail. */
static void prepared(struct game *game)
{
	uint32_t writes = 1 + fuzz_byte(&game->in) % 16;
	struct sheaf_tree_prep prep;
	size_t budget;

	if (!done(game, sheaf_tree_prepare(game->tree, &prep, writes), 0))
		return;
	budget = game->budget;
	game->budget = 0;
	sheaf_tree_lock(game->tree);
	while (writes--) {
		uint64_t first, last;
		void *what;

		keys(game, &first, &last);
		what = first % 4 ? entry(game) : NULL;
		fuzz_check(sheaf_tree_prepared_locked(game->tree, &prep));
		fuzz_check(sheaf_tree_store_locked(game->tree, &prep, first, last, what) == 0);
		oracle_store(&game->oracle, first, last, what);
		fuzz_check(!sheaf_tree_check(game->tree));
	}
	fuzz_check(sheaf_tree_store_locked(game->tree, &prep, 0, 0, game) == -EAGAIN);
	sheaf_tree_unlock(game->tree);
	game->budget = budget;
	sheaf_tree_finish(game->tree, &prep);
}

static void window(struct game *game)
{
	struct sheaf_tree_range range[8];
	uint64_t first, last;
	size_t got = 0, from, i, want;

	keys(game, &first, &last);
	from = oracle_at(&game->oracle, first);
	for (want = 0;
	     from + want < game->oracle.n && game->oracle.range[from + want].first <= last;)
		want++;
	fuzz_check(sheaf_tree_snapshot_range(game->tree, first, last, range, 8, &got, 0) ==
		   (want > 8 ? -ENOBUFS : 0));
	fuzz_check(got == want);
	for (i = 0; i < got && i < 8; i++)
		fuzz_check(range[i].first == game->oracle.range[from + i].first &&
			   range[i].last == game->oracle.range[from + i].last &&
			   range[i].entry == game->oracle.range[from + i].entry);
}

static void hole(struct sheaf_tree_holes *holes, uint64_t first, uint64_t last)
{
	fuzz_check(sheaf_tree_hole_next_rcu(holes));
	fuzz_check(holes->first == first && holes->last == last);
}

static void holes(struct game *game)
{
	struct sheaf_tree_holes over;
	uint64_t at, last;
	size_t i;

	keys(game, &at, &last);
	sheaf_tree_holes_init(&over, game->tree, at, last);
	for (i = oracle_at(&game->oracle, at);; i++) {
		const struct oracle_range *range =
			i < game->oracle.n ? &game->oracle.range[i] : NULL;

		if (!range || range->first > last) {
			hole(&over, at, last);
			break;
		}
		if (range->first > at)
			hole(&over, at, range->first - 1);
		if (range->last >= last)
			break;
		at = range->last + 1;
	}
	fuzz_check(!sheaf_tree_hole_next_rcu(&over));
}

/* Over all ranges, by cursor. */
static void compare(const struct game *game, const struct sheaf_tree *tree)
{
	const char *broken = sheaf_tree_check(tree);
	struct sheaf_tree_cursor cursor;
	size_t i;

	if (broken)
		fprintf(stderr, "%s\n", broken);
	fuzz_check(!broken);
	sheaf_tree_cursor_init(&cursor, tree);
	for (i = 0; i < game->oracle.n; i++) {
		fuzz_check(sheaf_tree_next_rcu(&cursor) == game->oracle.range[i].entry);
		fuzz_check(cursor.first == game->oracle.range[i].first);
		fuzz_check(cursor.last == game->oracle.range[i].last);
	}
	fuzz_check(!sheaf_tree_next_rcu(&cursor));
}

static int tree_make(struct game *game, struct sheaf_tree **tree, unsigned flags)
{
	const struct sheaf_tree_attr attr = {
		.size = sizeof(attr), .gp = &game->gp.gp, .nodes = game->nodes, .flags = flags};

	return sheaf_tree_create(tree, &attr);
}

/* Go on with a copy: one made of the tree, or of its ranges. */
static void copy(struct game *game)
{
	const unsigned flags =
		fuzz_byte(&game->in) % 2 ? game->flags : game->flags ^ SHEAF_TREE_GAPS;
	const bool build = fuzz_byte(&game->in) % 2;
	struct sheaf_tree *twin;

	fuzz_check(tree_make(game, &twin, flags) == 0);
	if (done(game,
		 build ? sheaf_tree_build(twin, (struct sheaf_tree_range *)game->oracle.range,
					  game->oracle.n)
		       : sheaf_tree_dup(twin, game->tree),
		 0)) {
		struct sheaf_tree *old = game->tree;

		compare(game, twin);
		game->tree = twin;
		game->flags = flags;
		twin = old;
		sheaf_tree_cursor_init(&game->cursor, game->tree);
	} else {
		fuzz_check(!sheaf_tree_load(twin, 0) && !sheaf_tree_check(twin));
	}
	fuzz_check(sheaf_tree_destroy(twin) == 0);
}

static void clear(struct game *game)
{
	sheaf_tree_clear(game->tree);
	game->oracle.n = 0;
}

static void drain(struct game *game)
{
	(void)sheaf_cache_barrier(game->nodes);
	sheaf_gp_manual_step(&game->gp);
	sheaf_cache_shrink(game->nodes);
}

/* From now on there is memory for so many nodes, or as many as wanted. */
static void ration(struct game *game)
{
	const uint8_t n = fuzz_byte(&game->in);

	drain(game);
	game->budget = n < 64 ? n : SIZE_MAX;
}

static void stats(struct game *game)
{
	struct sheaf_tree_stats s;

	sheaf_tree_stats(game->tree, &s);
	fuzz_check(s.entries == game->oracle.n && !s.height == !s.nodes);
}

/* The kinds above the first 22. */
static void play_more(struct game *game, unsigned what)
{
	switch (what) {
	case 22:
		erase_range(game);
		break;
	case 23:
		erase_key(game, true);
		break;
	case 24:
		insert(game, true);
		break;
	case 25:
		store_gap(game, true);
		break;
	case 26:
		find_end_gap(game);
		break;
	case 27:
		cursor_store(game, true, true);
		break;
	default:
		stats(game);
	}
}

static void play(struct game *game)
{
	unsigned what = fuzz_kind(&game->in, 22);

	switch (what) {
	case 0:
	case 1:
		store_point(game);
		break;
	case 2:
	case 3:
		store(game, false);
		break;
	case 4:
		store(game, true);
		break;
	case 5:
		insert(game, false);
		break;
	case 6:
	case 7:
		erase_key(game, false);
		break;
	case 8:
		cursor_store(game, false, false);
		break;
	case 9:
		cursor_store(game, true, false);
		break;
	case 10:
		cursor_append(game);
		break;
	case 11:
		cursor_erase(game);
		break;
	case 12:
		load(game);
		break;
	case 13:
		walk(game);
		break;
	case 14:
		find_gap(game);
		break;
	case 15:
		store_gap(game, false);
		break;
	case 16:
		prepared(game);
		break;
	case 17:
		window(game);
		break;
	case 18:
		holes(game);
		break;
	case 19:
		copy(game);
		break;
	case 20:
		sheaf_gp_manual_step(&game->gp);
		break;
	case 21:
		if (fuzz_byte(&game->in) % 8)
			ration(game);
		else
			clear(game);
		break;
	default:
		play_more(game, what);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct game game = {.in = {data, size}, .budget = SIZE_MAX};
	const uint8_t how = fuzz_byte(&game.in);
	const struct sheaf_cache_attr nodes = {
		.size = sizeof(nodes),
		.object_size = SHEAF_TREE_NODE_BYTES,
		.object_align = 64,
		.capacity = 1 + how / 4 % 4,
		.nodes = 1,
		.gp = &game.gp.gp,
		.backend = {.ops = &game_backend, .ctx = &game},
	};
	unsigned calls;

	game.flags = how % 4;
	sheaf_gp_manual_init(&game.gp, 0);
	fuzz_check(sheaf_cache_create(&game.nodes, &nodes) == 0);
	fuzz_check(tree_make(&game, &game.tree, game.flags) == 0);
	sheaf_tree_cursor_init(&game.cursor, game.tree);
	for (calls = 0; game.in.left && calls < CALLS_MOST; calls++) {
		const char *broken;

		play(&game);
		broken = sheaf_tree_check(game.tree);
		if (broken)
			fprintf(stderr, "%s\n", broken);
		fuzz_check(!broken);
	}
	compare(&game, game.tree);
	oracle_fini(&game.oracle);
	fuzz_check(sheaf_tree_destroy(game.tree) == 0);
	drain(&game);
	fuzz_check(game.out == 0);
	fuzz_check(sheaf_cache_destroy(game.nodes, NULL) == 0);
	return 0;
}
