/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a tree is a set of ranges. The oracle is a sorted array. Random stores,
 * inserts and erases in key spaces of 64 keys to all of them, at both ends of the keys
 * and across, with entries of any bits: each returns what the oracle says; after each all
 * invariants hold and the counters are the oracle's; loads, finds, steps both ways with
 * and without pause, and the search for free keys agree. Trees grow and shrink in
 * turns, so that they are divided, merged and emptied. A sequence that goes wrong is shrunk and
 * printed as a C function.
 */
#include "sequence.h"

#include <errno.h>

/* A key space, and how it is used. */
struct world {
	uint64_t base;
	uint64_t size; /* 0: all keys */
	uint64_t longest;
};

static const struct world worlds[] = {
	{0, 64, 16},
	{0, 1000, 8},
	{UINT64_MAX - 999, 1000, 8},
	{UINT64_MAX - 63, 64, 40},
	{UINT64_MAX / 2, 20000, 100},
	{0, 0, UINT64_C(1) << 57},
	{0, 0, UINT64_C(1) << 52},
};

struct player {
	const struct world *world;
	struct rig rig;
	struct oracle oracle;
	uint64_t state;
	/* What was written so far, to a tree made with these. */
	struct sequence sequence;
	uint32_t capacity;
	unsigned flags;
};

static uint64_t in_world(const struct world *world, uint64_t x)
{
	return world->size ? world->base + x % world->size : x;
}

/* Often at or next to a key where something begins or ends. */
static uint64_t pick_key(struct player *p)
{
	uint64_t x = test_random(&p->state);
	const struct oracle_range *range;

	if (p->oracle.n && test_below(&p->state, 2)) {
		range = &p->oracle.range[test_below(&p->state, p->oracle.n)];
		x = (x & 8 ? range->first : range->last) + test_below(&p->state, 3) - 1;
		if (p->world->size && x - p->world->base >= p->world->size)
			x = range->first;
		return x;
	}
	switch (test_below(&p->state, 50)) {
	case 0:
		return p->world->base;
	case 1:
		return p->world->base + p->world->size - 1;
	}
	return in_world(p->world, x);
}

static void pick_range(struct player *p, uint64_t *first, uint64_t *last)
{
	const struct world *world = p->world;
	const uint64_t end = world->base + world->size - 1;
	uint64_t longest = world->longest;

	*first = pick_key(p);
	if (!test_below(&p->state, 400)) {
		*last = pick_key(p);
		if (*last < *first) {
			uint64_t swap = *first;

			*first = *last;
			*last = swap;
		}
		return;
	}
	/* Lengths of all magnitudes. */
	longest >>= test_below(&p->state, 64);
	*last = *first + (longest ? test_random(&p->state) % longest : 0);
	if (*last < *first || *last > end)
		*last = end;
}

static void *pick_entry(struct player *p)
{
	void *entry = (void *)(uintptr_t)test_random(&p->state);

	return entry ? entry : (void *)1;
}

/* One more write. If it goes wrong, the shortest sequence that does is printed. */
static void play_write(struct player *p, const struct op *op)
{
	const char *wrong;

	sequence_add(&p->sequence, op);
	wrong = sequence_play(&p->rig, &p->oracle, op, sequence_call);
	if (!wrong)
		return;
	if (sequence_shrink(&p->sequence, p->capacity, p->flags, sequence_call))
		sequence_print(&p->sequence, stderr);
	else
		sheaf_tree_dump(p->rig.tree, SHEAF_TREE_TEXT, stderr);
	ck_abort_msg("%s; flags %u", wrong, p->flags);
}

static void play_store(struct player *p, bool insert)
{
	struct op op = {.call = insert ? CALL_INSERT : CALL_STORE, .entry = pick_entry(p)};

	pick_range(p, &op.first, &op.last);
	play_write(p, &op);
}

static void play_erase(struct player *p, bool range)
{
	struct op op = {.call = range ? CALL_STORE : CALL_ERASE};
	struct sheaf_tree_stats before, after;

	if (!range) {
		op.first = pick_key(p);
		play_write(p, &op);
		return;
	}
	pick_range(p, &op.first, &op.last);
	sheaf_tree_stats(p->rig.tree, &before);
	play_write(p, &op);
	sheaf_tree_stats(p->rig.tree, &after);
	/* What changes nothing is not a write. */
	expect(after.writes - before.writes <= 1);
	expect(after.entries == before.entries || after.writes != before.writes);
}

static void check_loads(struct player *p)
{
	unsigned i;

	for (i = 0; i < 4; i++) {
		uint64_t key = pick_key(p);
		void *entry = oracle_load(&p->oracle, key);

		expect(sheaf_tree_load_rcu(p->rig.tree, key) == entry);
		expect(sheaf_tree_load(p->rig.tree, key) == entry);
	}
	expect(sheaf_tree_load_rcu(p->rig.tree, 0) == oracle_load(&p->oracle, 0));
	expect(sheaf_tree_load_rcu(p->rig.tree, UINT64_MAX) == oracle_load(&p->oracle, UINT64_MAX));
}

/* A walk at random: up, down, with pauses. */
static void check_cursor(struct player *p)
{
	uint64_t key = pick_key(p);
	size_t at = oracle_at(&p->oracle, key);
	struct sheaf_tree_cursor cursor;
	unsigned steps;
	void *entry;

	sheaf_tree_cursor_init(&cursor, p->rig.tree);
	entry = sheaf_tree_find_rcu(&cursor, key);
	for (steps = 0; steps < 8; steps++) {
		if (at == p->oracle.n || at == SIZE_MAX) {
			expect(!entry);
		} else {
			expect(entry == p->oracle.range[at].entry);
			expect(cursor.first == p->oracle.range[at].first);
			expect(cursor.last == p->oracle.range[at].last);
		}
		if (test_below(&p->state, 2))
			sheaf_tree_cursor_pause(&cursor);
		if (test_below(&p->state, 2)) {
			entry = sheaf_tree_next_rcu(&cursor);
			at += at == p->oracle.n ? 0 : 1;
		} else {
			entry = sheaf_tree_prev_rcu(&cursor);
			at -= at == SIZE_MAX ? 0 : 1;
		}
	}
}

static int tree_gap(struct player *p, const struct sheaf_tree_gap *gap, uint64_t *at)
{
	int err;

	if (!gap->offset)
		return (gap->highest ? sheaf_tree_highest_gap : sheaf_tree_lowest_gap)(
			p->rig.tree, gap->min, gap->max, gap->size, gap->align, at);
	sheaf_tree_lock(p->rig.tree);
	err = sheaf_tree_gap_locked(p->rig.tree, gap, at);
	sheaf_tree_unlock(p->rig.tree);
	return err;
}

static void check_gap(struct player *p, bool highest)
{
	struct sheaf_tree_gap gap;
	uint64_t size = test_random(&p->state) >> test_below(&p->state, 64);
	uint64_t align = test_below(&p->state, 3) ? 0 : UINT64_C(1) << test_below(&p->state, 64);
	uint64_t min = test_below(&p->state, 2) ? pick_key(p) : 0;
	uint64_t max = test_below(&p->state, 2) ? pick_key(p) : UINT64_MAX;
	uint64_t at = 1, want = 1;
	int err, want_err;

	if (min > max) {
		uint64_t swap = min;

		min = max;
		max = swap;
	}
	if (p->world->size && test_below(&p->state, 4)) {
		size = 1 + size % p->world->longest;
		align = align > 64 ? 16 : align;
		if (!min)
			min = p->world->base;
		if (max == UINT64_MAX)
			max = p->world->base + p->world->size - 1;
	}
	size += !size;
	gap = (struct sheaf_tree_gap){
		.min = min, .max = max, .size = size, .align = align, .highest = highest};
	if (align && test_below(&p->state, 2))
		gap.offset = test_random(&p->state) & (align - 1);
	want_err = oracle_gap(&p->oracle, &gap, &want);
	err = tree_gap(p, &gap, &at);
	expect(err == want_err);
	expect(at == want);
}

static void play(struct player *p, unsigned rounds)
{
	bool grow = true;
	unsigned i;

	for (i = 0; i < rounds; i++) {
		unsigned what = (unsigned)test_below(&p->state, 100);

		if (!test_below(&p->state, grow ? 800 : 400))
			grow = !grow;
		if (what < (grow ? 60 : 10))
			play_store(p, false);
		else if (what < (grow ? 80 : 15))
			play_store(p, true);
		else if (what < (grow ? 98 : 97))
			play_erase(p, false);
		else
			play_erase(p, true);
		if (!test_below(&p->state, 50))
			play_write(p, &(struct op){.call = CALL_STEP});
		check_loads(p);
		check_cursor(p);
		check_gap(p, false);
		check_gap(p, true);
	}
	if (test_below(&p->state, 2)) {
		sheaf_tree_clear(p->rig.tree);
		expect(!sheaf_tree_check(p->rig.tree));
		expect(!sheaf_tree_load_rcu(p->rig.tree, p->world->base));
	}
}

START_TEST(random_writes)
{
	struct player p = {.world = &worlds[_i], .state = test_seed() + (unsigned)_i};
	unsigned round;

	for (round = 0; round < 4; round++) {
		p.capacity = 2 + round;
		p.flags = round;
		rig_init(&p.rig, p.capacity, p.flags);
		play(&p, test_rounds(3000));
		sequence_fini(&p.sequence);
		oracle_fini(&p.oracle);
		rig_fini(&p.rig);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree-model");
	TCase *tcase = tcase_create("random");

	tcase_add_loop_test(tcase, random_writes, 0, sizeof(worlds) / sizeof(worlds[0]));
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
