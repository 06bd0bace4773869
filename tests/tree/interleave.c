/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of a tree with nodes of three items that in every interleaving of the atomic accesses
 * of one reader and one writer with one preemption, and in some with more, the reader sees what it may.
 * Every kind of write, in place and with nodes replaced, at every place of a tree three levels
 * high, beside every kind of reader. The states between the writes are arrays.
 *
 *  - Loads: each is of a state between those when it began and when it ended, and none
 *    is older than the one before: so that a write is seen as a whole. As one writer gives the states their order,
 *    stores and that reader's loads are linearizable.
 *  - A scan, up or down, after a load: in order, without overlap; what it meets is in a state
 *    that is no older than the load's, though it may be cut at the side it came from; what
 *    all those states share it meets.
 *  - A snapshot is one of those states; it may give up if there was a write.
 *  - A free place that was found was free in one of those states; if nothing fits, that is
 *    so in one of them. A search may give up if there was a write, and no hole of that size was
 *    between the same two ranges in all states.
 *
 * Loads and stores are in order here. Where their order rests on an acquire and its release, the essays of
 * lib/tree.c and lib/tree_gap.c name both; tree-race under ThreadSanitizer misses one that is not there, but
 * reorders nothing itself: that is left to tree-race on a processor that does, such as an aarch64.
 */
#include "oracle.h"
#include "schedule.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Ranges at first; kinds of writes; writes in a row. */
#define N 12
#define WRITES 3
#define MOST (3 * N)

struct change {
	uint64_t first;
	uint64_t last;
	void *entry;
};

enum kind { PUT, REPLACE, CUT, ERASE, SPAN, WIPE, LOWER, REVIVE, MOVE, APPEND, BELOW, KINDS };
/* A search for a free place is led by the gap index, or looks through all ranges. */
enum role { LOADS, UP, DOWN, WINDOW, GAP, PLAIN_GAP, ROLES };

static const char *const names[KINDS] = {
	"put",   "replace", "cut",  "erase",  "span",  "wipe",
	"lower", "revive",  "move", "append", "below",
};

static struct {
	enum kind kind;
	enum role role;
	/* Where the write is, and what is stored at first: single keys, or ranges of six. */
	unsigned place;
	uint64_t length;

	struct rig rig;
	struct change change[WRITES];
	unsigned changes;
	/* state[i] is how it is when i writes are done. */
	struct oracle state[WRITES + 1];
	/* Writes that have begun and ended. */
	unsigned begun;
	unsigned done;
	const char *error;
} t;

static uint64_t first_of(uint64_t i)
{
	return 10 * (i + 1);
}

static void *entry_of(uint64_t i)
{
	return (void *)(uintptr_t)(16 * i + 1);
}

/* What is written: the kind, at the place. */
static void set_changes(void)
{
	const uint64_t first = first_of(t.place), last = first + t.length - 1;
	void *fresh = entry_of(100);

	t.changes = 1;
	switch (t.kind) {
	case PUT:
		t.change[0] = (struct change){first + 7, first + 7, fresh};
		break;
	case REPLACE:
		t.change[0] = (struct change){first, last, fresh};
		break;
	case CUT:
		t.change[0] = (struct change){first + t.length / 3, last - t.length / 3, fresh};
		break;
	case ERASE:
		t.change[0] = (struct change){first, last, NULL};
		break;
	case SPAN:
		t.change[0] = (struct change){last, first + 43, fresh};
		break;
	case WIPE:
		t.change[0] = (struct change){first, UINT64_MAX, NULL};
		break;
	case LOWER:
		/* Two in a row, one of which is the last of its leaf more often than not. */
		t.change[0] = (struct change){first, last, NULL};
		t.change[1] = (struct change){first + 10, last + 10, NULL};
		t.changes = 2;
		break;
	case MOVE:
		/* A wide hole elsewhere, then none where the only one was. */
		t.change[0].first = first_of((t.place + N / 2) % N);
		t.change[0].last = t.change[0].first + t.length - 1;
		t.change[0].entry = NULL;
		t.change[1] = (struct change){first, last, fresh};
		t.changes = 2;
		break;
	case APPEND:
		/* Behind all, in a leaf of its own if the last one is full; then the last of those
		 * before is gone. */
		t.change[0] = (struct change){first + 10, last + 10, fresh};
		t.change[1] = (struct change){first, last, NULL};
		t.changes = 2;
		break;
	case BELOW:
		/* The next one is gone, and what comes between is in the next leaf if that lowered
		 * a pivot; then the one before is gone. */
		t.change[0] = (struct change){first + 10, last + 10, NULL};
		t.change[1] = (struct change){first + 7, first + 8, fresh};
		t.change[2] = (struct change){first, last, NULL};
		t.changes = 3;
		break;
	default:
		/* Gone, and there again: in the next leaf if a pivot was lowered. */
		t.change[0] = (struct change){first, last, NULL};
		t.change[1] = (struct change){first, last, fresh};
		t.changes = 2;
	}
}

static void begin(void)
{
	const bool index = t.role == GAP || (t.role != PLAIN_GAP && t.place % 3 == 0);
	unsigned i, w;

	t.begun = t.done = 0;
	t.error = NULL;
	rig_init(&t.rig, 4, index ? SHEAF_TREE_GAPS : 0);
	set_changes();
	memset(t.state, 0, sizeof(t.state));
	for (i = 0; i < N; i++) {
		/* In no order, so that leaves have room; or in ascending order, so that they have none. */
		const uint64_t k = t.kind == APPEND ? i : i * 5 % N;
		const uint64_t last = first_of(k) + t.length - 1;

		if ((t.kind == MOVE && k == t.place) || (t.kind == APPEND && k > t.place))
			continue;
		expect(sheaf_tree_store(t.rig.tree, first_of(k), last, entry_of(k)) == 0);
		for (w = 0; w <= t.changes; w++)
			oracle_store(&t.state[w], first_of(k), last, entry_of(k));
	}
	for (w = 1; w <= t.changes; w++)
		for (i = 0; i < w; i++)
			oracle_store(&t.state[w], t.change[i].first, t.change[i].last,
				     t.change[i].entry);
}

static const char *end(void)
{
	unsigned w;

	if (!t.error)
		rig_compare(&t.rig, &t.state[t.changes]);
	for (w = 0; w <= t.changes; w++)
		oracle_fini(&t.state[w]);
	rig_fini(&t.rig);
	return t.error;
}

static void write_all(void)
{
	unsigned i;

	for (i = 0; i < t.changes; i++) {
		const struct change *c = &t.change[i];

		t.begun++;
		if (sheaf_tree_store(t.rig.tree, c->first, c->last, c->entry))
			t.error = "no memory";
		t.done++;
	}
}

static void load_some(void)
{
	const uint64_t middle = first_of(t.place);
	const uint64_t keys[] = {middle, middle + 7, middle + 10, middle + t.length / 2,
				 middle + 20};
	unsigned i, floor = 0;

	for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		void *seen;

		floor = t.done > floor ? t.done : floor;
		seen = sheaf_tree_load_rcu(t.rig.tree, keys[i]);
		while (floor <= t.begun && oracle_load(&t.state[floor], keys[i]) != seen)
			floor++;
		if (floor > t.begun) {
			t.error = "a load sees what never was, or was before";
			return;
		}
	}
}

/* Is it a range of that state, or one cut at the side from which a scan came? */
static bool in_state(const struct oracle *state, const struct sheaf_tree_cursor *cursor, bool up)
{
	const size_t i = oracle_at(state, cursor->first);
	const struct oracle_range *range = &state->range[i];

	if (i == state->n || range->entry != cursor->entry)
		return false;
	return up ? range->first <= cursor->first && range->last == cursor->last
		  : range->first == cursor->first && range->last >= cursor->last;
}

/* Is a range of one state in all later ones? */
static bool stays(const struct oracle_range *range, unsigned from)
{
	unsigned w;

	for (w = from + 1; w <= t.changes; w++) {
		const size_t i = oracle_at(&t.state[w], range->first);

		if (i == t.state[w].n || memcmp(&t.state[w].range[i], range, sizeof(*range)))
			return false;
	}
	return true;
}

/* The first state that a load may be of; what is read after it is not older. */
static unsigned state_now(void)
{
	const uint64_t key = t.change[0].first;
	unsigned w = t.done;
	const void *seen = sheaf_tree_load_rcu(t.rig.tree, key);

	while (w < t.begun && oracle_load(&t.state[w], key) != seen)
		w++;
	return w;
}

static void scan(bool up)
{
	const unsigned from = state_now();
	const struct oracle *old = &t.state[from];
	struct sheaf_tree_cursor cursor;
	bool met[MOST] = {false};
	uint64_t passed = 0;
	unsigned w, steps;
	size_t i;

	sheaf_tree_cursor_init(&cursor, t.rig.tree);
	for (steps = 0; steps < MOST; steps++) {
		/* A step within a leaf is inline here, where the scheduler does not see it. */
		schedule_point();
		if (!(up ? sheaf_tree_next_rcu(&cursor) : sheaf_tree_prev_rcu(&cursor)))
			break;
		if (cursor.first > cursor.last ||
		    (steps && (up ? cursor.first <= passed : cursor.last >= passed)))
			t.error = "a scan goes back";
		passed = up ? cursor.last : cursor.first;
		for (w = from; w <= t.begun && !in_state(&t.state[w], &cursor, up); w++)
			;
		if (w > t.begun)
			t.error = "a scan sees what never was, or was before";
		for (i = 0; i < old->n; i++)
			if (old->range[i].first == cursor.first &&
			    old->range[i].entry == cursor.entry)
				met[i] = true;
	}
	for (i = 0; i < old->n; i++)
		if (!met[i] && stays(&old->range[i], from))
			t.error = "a scan misses what stays";
}

static bool is_state(const struct oracle *state, const struct sheaf_tree_range *range, size_t n)
{
	return state->n == n && memcmp(state->range, range, n * sizeof(*range)) == 0;
}

static void snapshot(void)
{
	struct sheaf_tree_range range[MOST];
	const unsigned from = t.done;
	size_t got = 0;
	unsigned w;
	int err = sheaf_tree_snapshot_range(t.rig.tree, 0, UINT64_MAX, range, MOST, &got, 1);

	if (err == -EAGAIN) {
		if (from == t.begun)
			t.error = "a snapshot gives up without a write";
		return;
	}
	for (w = from; w <= t.begun && !is_state(&t.state[w], range, got); w++)
		;
	if (err || w > t.begun)
		t.error = "a snapshot is of no moment";
}

/* Is there a hole of the window, of so many keys, that no write until now has made, cut, or joined
 * with another one? */
static bool hole_stays(unsigned from, uint64_t max, uint64_t size)
{
	const struct oracle *state = &t.state[from];
	uint64_t first = 1;
	size_t i;

	for (i = 0; i <= state->n; i++) {
		const uint64_t end = i < state->n ? state->range[i].first : UINT64_MAX;
		unsigned w;

		for (w = from; w <= t.begun; w++) {
			const struct oracle *other = &t.state[w];
			const size_t k = oracle_at(other, first);

			if ((k < other->n ? other->range[k].first : UINT64_MAX) != end ||
			    (first > 1 && !oracle_load(other, first - 1)))
				break;
		}
		if (w > t.begun && (end <= max ? end : max + 1) >= first + size)
			return true;
		first = i < state->n ? state->range[i].last + 1 : 0;
	}
	return false;
}

/* Does it fit anywhere in that state? */
static bool has_place(const struct oracle *state, const struct sheaf_tree_gap *gap)
{
	uint64_t first = gap->min;
	size_t i;

	for (i = 0; i < state->n && state->range[i].first <= gap->max; i++) {
		if (state->range[i].first >= first + gap->size)
			return true;
		if (state->range[i].last >= first)
			first = state->range[i].last + 1;
	}
	return gap->max + 1 >= first + gap->size;
}

static void seek_gap(const struct sheaf_tree_gap gap)
{
	const unsigned from = t.done;
	uint64_t at = 0;
	unsigned w;
	int err = sheaf_tree_gap_rcu(t.rig.tree, &gap, &at);

	if (err == -EAGAIN) {
		if (from == t.begun)
			t.error = "a search gives up without a write";
		else if (gap.min == 1 && hole_stays(from, gap.max, gap.size))
			t.error = "a hole that stays is missed";
		return;
	}
	if (err) {
		for (w = from; w <= t.begun && has_place(&t.state[w], &gap); w++)
			;
		if (err != -ENOSPC || w > t.begun)
			t.error = "there was a place at every moment";
		return;
	}
	for (w = from; w <= t.begun; w++) {
		const size_t i = oracle_at(&t.state[w], at);

		if (i == t.state[w].n || t.state[w].range[i].first > at + gap.size - 1)
			return;
	}
	t.error = "a place was never free";
}

/*
 * In all that there is, where only holes that are joined fit; in the hole before the place, the
 * range there with it, which leaves the place free while that goes and comes; where that and
 * the next range are, both holes with them, all of which is free only if both are gone; and
 * behind all.
 */
static void seek_gaps(void)
{
	const uint64_t first = first_of(t.place);
	const bool highest = t.place % 2;

	seek_gap((struct sheaf_tree_gap){
		.min = 1, .max = first_of(N) - 1, .size = 11 - t.length, .highest = highest});
	seek_gap((struct sheaf_tree_gap){.min = first - 10 + t.length,
					 .max = first + t.length - 1,
					 .size = 10 - t.length,
					 .highest = true});
	seek_gap((struct sheaf_tree_gap){.min = first - 10 + t.length,
					 .max = first + 10 + t.length - 1,
					 .size = 20,
					 .highest = highest});
	seek_gap(
		(struct sheaf_tree_gap){.min = 1, .max = 100000, .size = 1000, .highest = highest});
}

static void run(unsigned me)
{
	if (me) {
		write_all();
		return;
	}
	switch (t.role) {
	case LOADS:
		load_some();
		break;
	case UP:
	case DOWN:
		scan(t.role == UP);
		break;
	case WINDOW:
		snapshot();
		break;
	default:
		seek_gaps();
	}
}

/* Which places and readers a run has: some of them, in turn; but who looks for free places is beside
 * the writes that are there for them at each place. */
static bool in_turn(unsigned i, unsigned from)
{
	if (t.kind >= APPEND && !test_full())
		return t.role >= GAP;
	return i % (test_full() ? 1 : test_slow() ? 5 : 3) == from;
}

/* All places and readers beside one kind of write. */
START_TEST(reader_sees_what_it_may)
{
	struct schedule schedule = {
		.threads = 2,
		.begin = begin,
		.run = run,
		.end = end,
		.runs = 2000,
	};
	const unsigned from = test_full() ? 0 : (unsigned)(test_seed() % (test_slow() ? 5 : 3));
	const unsigned most = 1 + test_full();
	uint64_t runs = 0;
	unsigned cases = 0, whole = 0, i;

	t.kind = (enum kind)(_i / 2);
	t.length = _i % 2 ? 6 : 1;
	for (i = 0; i < N * ROLES; i++) {
		t.place = i / ROLES;
		/* So that the turns of each place are others. */
		t.role = (enum role)((i + t.place) % ROLES);
		if (!in_turn(i, from))
			continue;
		cases++;
		/* All with one, then as many with two as there are runs. */
		for (schedule.preemptions = 1; schedule.preemptions <= most;
		     schedule.preemptions++) {
			const struct schedule_result result = schedule_run(&schedule);

			runs += result.runs;
			whole += result.complete && schedule.preemptions == most;
			ck_assert_msg(!result.error, "%s, place %u, reader %d: %s, run %u",
				      names[t.kind], t.place, (int)t.role, result.error,
				      result.runs);
			ck_assert_msg(result.complete || schedule.preemptions > 1,
				      "%s, place %u, reader %d: %u runs are not all", names[t.kind],
				      t.place, (int)t.role, result.runs);
		}
	}
	printf("# %s, %s: %u cases, %llu schedules; %u cases with all that have %u preemption%s\n",
	       names[t.kind], t.length > 1 ? "ranges" : "points", cases, (unsigned long long)runs,
	       whole, most, most == 1 ? "" : "s");
	/* And some of many preemptions, by chance. */
	schedule.preemptions = 20;
	schedule.seed = test_seed();
	schedule.runs = test_rounds(60);
	for (t.place = 0; t.place < N; t.place++)
		for (i = 0; i < ROLES; i++) {
			struct schedule_result result;

			t.role = (enum role)i;
			result = schedule_run(&schedule);
			ck_assert_msg(!result.error,
				      "%s, place %u, reader %u: %s, run %u, by chance",
				      names[t.kind], t.place, i, result.error, result.runs);
		}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("tree");
	TCase *tcase = tcase_create("interleave");

	tcase_set_timeout(tcase, test_full() ? 3600 : 120);
	tcase_add_loop_test(tcase, reader_sees_what_it_may, 0, 2 * KINDS);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
