/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the barn, used by several threads and by signal handlers at once: no
 * sheaf is ever in two hands, no object is lost or doubled, what the giver wrote is
 * there for the taker, and a sheaf may be freed as soon as it is taken. Each object and
 * each sheaf carries the stamp of who owns it, 0 while the barn does; whoever gets
 * it must find 0. Capacities are 2 to 4; one case has more sheaves than cells, so that
 * the chain is used. The contents of sheaves and objects are plain memory, so ThreadSanitizer
 * sees a missing order, and AddressSanitizer a touch of what was freed.
 */
#include <sheaf/barn.h>

#include "base/atomic.h"
#include "common.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

#define HAND_MOST 60
#define OBJECTS_MOST 600
#define SHEAVES_MOST 200
#define THREADS_MOST 4
#define BARN UINT32_C(0)

static const struct variant {
	const char *name;
	unsigned threads;
	unsigned sheaves;
	unsigned objects;
	uint32_t limit;
	/* Sheaves in one hand at most. With as many as there are, the barn runs empty. */
	unsigned hand;
	/* Sheaves are freed when taken, and new ones given. */
	bool fresh;
	bool signals;
	/* All cells look as if somebody were about to fill them: the chain is all there is. */
	bool chained;
} variants[] = {
	{.name = "few sheaves", .threads = 2, .sheaves = 3, .objects = 4, .limit = 2, .hand = 4},
	{.name = "more threads", .threads = 4, .sheaves = 10, .objects = 20, .limit = 4, .hand = 4},
	{.name = "no limit", .threads = 4, .sheaves = 10, .objects = 20, .limit = 100, .hand = 4},
	{.name = "chain", .threads = 4, .sheaves = 180, .objects = 400, .limit = 1000, .hand = 60},
	{.name = "freed sheaves",
	 .threads = 4,
	 .sheaves = 8,
	 .objects = 16,
	 .limit = 8,
	 .hand = 4,
	 .fresh = true},
	{.name = "freed, chain",
	 .threads = 4,
	 .sheaves = 180,
	 .objects = 400,
	 .limit = 1000,
	 .hand = 60,
	 .fresh = true},
	{.name = "chain only",
	 .threads = 3,
	 .sheaves = 12,
	 .objects = 24,
	 .limit = 100,
	 .hand = 4,
	 .fresh = true,
	 .chained = true},
	{.name = "signals",
	 .threads = 3,
	 .sheaves = 12,
	 .objects = 24,
	 .limit = 100,
	 .hand = 4,
	 .signals = true},
};

#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

/* An owner's stamp in front of each sheaf. */
struct tag {
	_Alignas(16) uint32_t owner;
};

struct object {
	uint32_t owner;
	unsigned visits;
};

struct worker {
	unsigned rounds;
	uint32_t me;
	uint64_t state;
	unsigned in_hand;
	unsigned errors;
	unsigned got;
	/* Ebb and flow: takes more than it gives, or the other way round. */
	bool flow;
	struct sheaf *hand[HAND_MOST + 2];
	/* Handed over by a trim beyond what a hand holds. */
	struct sheaf *extra[SHEAVES_MOST];
	unsigned n_extra;
};

static struct sheaf_barn barn;
static const struct variant *variant;
static struct object objects[OBJECTS_MOST];
static struct worker workers[THREADS_MOST];
static __thread struct worker *interrupted;

static struct tag *tag_of(struct sheaf *sheaf)
{
	return (struct tag *)sheaf - 1;
}

static struct sheaf *sheaf_make(uint32_t capacity, uint32_t owner)
{
	struct tag *tag = malloc(sizeof(*tag) + sheaf_bytes(capacity));

	tag->owner = owner;
	return sheaf_init(tag + 1, capacity);
}

/* Changes the owner of a sheaf and of what is in it; returns what was wrong. */
static unsigned pass_on(struct sheaf *sheaf, uint32_t from, uint32_t to)
{
	unsigned errors = exchange_relaxed(&tag_of(sheaf)->owner, to) != from;

	errors += !sheaf_check(sheaf);
	for (uint32_t i = 0; i < sheaf->size; i++) {
		struct object *object = sheaf->objects[i];

		errors += exchange_relaxed(&object->owner, to) != from;
		object->visits++;
	}
	return errors;
}

static void hand_get(struct worker *w, struct sheaf *sheaf)
{
	if (!sheaf)
		return;
	w->errors += pass_on(sheaf, BARN, w->me);
	w->got++;
	w->hand[w->in_hand++] = sheaf;
}

static struct sheaf *hand_pick(struct worker *w)
{
	unsigned i = (unsigned)test_below(&w->state, w->in_hand);
	struct sheaf *sheaf = w->hand[i];

	w->hand[i] = w->hand[--w->in_hand];
	return sheaf;
}

static void take_one(struct worker *w)
{
	struct sheaf *sheaf = test_below(&w->state, 2) ? sheaf_barn_take_full(&barn)
						       : sheaf_barn_take_empty(&barn);

	hand_get(w, sheaf);
}

static void give_one(struct worker *w)
{
	struct sheaf *sheaf = hand_pick(w);
	int err;

	w->errors += pass_on(sheaf, w->me, BARN);
	if (!test_below(&w->state, 10)) {
		sheaf_barn_keep(&barn, sheaf);
		return;
	}
	err = sheaf_empty(sheaf) ? sheaf_barn_give_empty(&barn, sheaf)
				 : sheaf_barn_give_full(&barn, sheaf);
	if (err)
		hand_get(w, sheaf);
}

static void trade_one(struct worker *w)
{
	struct sheaf *mine = hand_pick(w), *got;
	bool want_full = sheaf_empty(mine);

	w->errors += pass_on(mine, w->me, BARN);
	got = want_full ? sheaf_barn_trade_empty(&barn, mine) : sheaf_barn_trade_full(&barn, mine);
	if (got)
		w->errors += sheaf_empty(got) == want_full;
	hand_get(w, got ? got : mine);
}

/* Moves objects about between the sheaves in hand. */
static void shuffle(struct worker *w)
{
	struct sheaf *to = w->hand[test_below(&w->state, w->in_hand)];
	struct sheaf *from = w->hand[test_below(&w->state, w->in_hand)];
	void *object;

	if (to == from || sheaf_full(to))
		return;
	object = sheaf_pop(from);
	if (object)
		sheaf_push(to, object);
}

/* The memory of a sheaf in hand goes, its objects move to a new one. */
static void replace_one(struct worker *w)
{
	struct sheaf *old = hand_pick(w);
	struct sheaf *made = sheaf_make(old->capacity, w->me);

	sheaf_push_many(made, old->size, old->objects);
	old->size = UINT32_MAX;
	free(tag_of(old));
	w->hand[w->in_hand++] = made;
}

static void work_once(struct worker *w)
{
	uint64_t what = test_below(&w->state, 10);

	if (w->in_hand < 2)
		w->flow = true;
	else if (w->in_hand >= variant->hand || !test_below(&w->state, 200))
		w->flow = false;
	if (!w->in_hand || (w->in_hand < variant->hand && what < (w->flow ? 4 : 2)))
		take_one(w);
	else if (what < 5)
		give_one(w);
	else if (what < 8)
		trade_one(w);
	else
		shuffle(w);
	if (variant->fresh && w->in_hand)
		replace_one(w);
}

/* What a trim hands over goes to this hand, or back if there is no room in it. */
static void trim_one(void *arg, struct sheaf *sheaf)
{
	struct worker *w = arg;

	if (w->in_hand < variant->hand) {
		hand_get(w, sheaf);
		return;
	}
	w->errors += pass_on(sheaf, BARN, w->me);
	w->errors += pass_on(sheaf, w->me, BARN);
	w->extra[w->n_extra++] = sheaf;
}

static void trim(struct worker *w)
{
	static struct sheaf_barn_look look;

	w->n_extra = 0;
	sheaf_barn_trim(&barn, &look, trim_one, w);
	while (w->n_extra)
		sheaf_barn_keep(&barn, w->extra[--w->n_extra]);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	interrupted = w;
	for (unsigned i = w->rounds; i; i--) {
		work_once(w);
		if (w == workers && i % 16 == 0)
			trim(w);
	}
	interrupted = NULL;
	while (w->in_hand) {
		struct sheaf *sheaf = w->hand[--w->in_hand];

		w->errors += pass_on(sheaf, w->me, BARN);
		sheaf_barn_keep(&barn, sheaf);
	}
	return NULL;
}

/* One sheaf comes and goes, whatever this thread was doing in the barn. */
static void on_signal(int number)
{
	struct worker *w = interrupted;
	struct sheaf *sheaf;

	(void)number;
	if (!w)
		return;
	sheaf = sheaf_barn_take_full(&barn);
	if (!sheaf)
		sheaf = sheaf_barn_take_empty(&barn);
	if (!sheaf)
		return;
	w->errors += pass_on(sheaf, BARN, w->me + THREADS_MOST);
	w->errors += pass_on(sheaf, w->me + THREADS_MOST, BARN);
	sheaf_barn_keep(&barn, sheaf);
}

static void *work_interrupted(void *arg)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	const struct itimerspec period = {{0, 50000}, {0, 50000}};
	timer_t timer;

	/* A signal of the process may come to any worker: all the better. */
	sigaction(SIGUSR1, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
		timer_settime(timer, 0, &period, NULL);
	work(arg);
	timer_delete(timer);
	return NULL;
}

static void occupy_cells(struct sheaf_barn_side *side, struct sheaf *sheaf)
{
	for (unsigned i = 0; i < SHEAF_BARN_CELLS; i++)
		side->cells[i].sheaf = sheaf;
}

static void begin(void)
{
	static struct sheaf nobody;
	unsigned next = 0;

	sheaf_barn_init(&barn, 0, variant->limit, variant->limit);
	if (variant->chained) {
		occupy_cells(&barn.full, &nobody);
		occupy_cells(&barn.empty, &nobody);
	}
	for (unsigned i = 0; i < variant->sheaves; i++) {
		struct sheaf *sheaf = sheaf_make(2 + i % 3, BARN);

		for (unsigned n = i % 4; n && next < variant->objects; n--)
			if (sheaf_push(sheaf, &objects[next]))
				objects[next++] = (struct object){0};
		sheaf_barn_keep(&barn, sheaf);
	}
	ck_assert(variant->chained || sheaf_barn_check(&barn));
	ck_assert_uint_gt(next, 0);
	for (unsigned i = next; i < OBJECTS_MOST; i++)
		objects[i].owner = UINT32_MAX;
}

struct tally {
	unsigned sheaves;
	unsigned errors;
};

static void count_one(void *arg, struct sheaf *sheaf)
{
	struct tally *tally = arg;

	tally->errors += pass_on(sheaf, BARN, UINT32_MAX);
	tally->sheaves++;
	free(tag_of(sheaf));
}

START_TEST(nothing_lost_nothing_doubled)
{
	uint64_t seed = test_seed();
	struct tally tally = {0, 0};
	struct sheaf_barn_stats stats;
	unsigned got = 0;

	variant = &variants[_i];
	begin();
	for (unsigned i = 0; i < variant->threads; i++)
		workers[i] = (struct worker){
			.rounds = test_rounds(variant->sheaves > 100 ? 100000 : 250000),
			.me = i + 1,
			.state = seed + i + 1,
		};
	test_threads(variant->threads, variant->signals ? work_interrupted : work, workers,
		     sizeof(workers[0]));
	for (unsigned i = 0; i < variant->threads; i++) {
		ck_assert_msg(workers[i].errors == 0, "%s: thread %u saw %u errors", variant->name,
			      i, workers[i].errors);
		got += workers[i].got;
	}
	ck_assert_uint_gt(got, 0);
	if (variant->chained) {
		occupy_cells(&barn.full, NULL);
		occupy_cells(&barn.empty, NULL);
	}
	ck_assert(sheaf_barn_check(&barn));
	sheaf_barn_stats(&barn, &stats);
	ck_assert_uint_eq(stats.full.held + stats.empty.held, variant->sheaves);
	ck_assert_uint_le(stats.full.peak, variant->sheaves);
	ck_assert_uint_le(stats.empty.peak, variant->sheaves);
	ck_assert_uint_eq(sheaf_barn_drain(&barn, count_one, &tally), variant->sheaves);
	ck_assert_uint_eq(tally.sheaves, variant->sheaves);
	ck_assert_uint_eq(tally.errors, 0);
	for (unsigned i = 0; i < OBJECTS_MOST; i++)
		ck_assert_uint_eq(objects[i].owner, UINT32_MAX);
	ck_assert_int_eq(sheaf_barn_fini(&barn), 0);
}
END_TEST

/*
 * Soft limits: each thread may be one sheaf above, and have counted one too many.
 */
#define LIMIT 5

static void *press(void *arg)
{
	struct worker *w = arg;
	struct sheaf *sheaf = NULL;

	for (unsigned i = w->rounds; i; i--) {
		if (!sheaf)
			sheaf = sheaf_barn_take_empty(&barn);
		if (sheaf && sheaf_barn_give_empty(&barn, sheaf) == 0)
			sheaf = NULL;
	}
	if (sheaf)
		sheaf_barn_keep(&barn, sheaf);
	return NULL;
}

START_TEST(limits_overshoot_by_threads_only)
{
	struct tally tally = {0, 0};
	struct sheaf_barn_stats stats;

	sheaf_barn_init(&barn, 0, 0, LIMIT);
	for (unsigned i = 0; i < LIMIT; i++)
		ck_assert_int_eq(sheaf_barn_give_empty(&barn, sheaf_make(2, BARN)), 0);
	for (unsigned i = 0; i < THREADS_MOST; i++)
		workers[i] = (struct worker){.rounds = test_rounds(100000)};
	test_threads(THREADS_MOST, press, workers, sizeof(workers[0]));
	sheaf_barn_stats(&barn, &stats);
	ck_assert_uint_le(stats.empty.peak, LIMIT + 2 * THREADS_MOST);
	ck_assert_uint_eq(sheaf_barn_drain(&barn, count_one, &tally), LIMIT);
	ck_assert_uint_eq(tally.errors, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("barn");
	TCase *tc = tcase_create("race");

	tcase_add_loop_test(tc, nothing_lost_nothing_doubled, 0, VARIANTS);
	tcase_add_test(tc, limits_overshoot_by_threads_only);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
