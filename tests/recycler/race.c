/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of the recycler, used by several threads at once: every sheaf given is taken by
 * exactly one, in the order in which its giver gave it, with its contents, after its
 * ticket; and no reader ever finds that an object changes under it while its read
 * section lasts: writers replace published nodes, retire the old ones in sheaves of 2
 * to 4, and make those that come back into something else at once, while readers keep
 * sections open and look twice. The same test run over a source whose tickets elapse at
 * once must fail, which proves that it can.
 */
#include <urcu/urcu-memb.h>

#include <sheaf/recycler.h>

#include "base/atomic.h"
#include "common.h"

#include <sched.h>
#include <stdlib.h>

static struct sheaf_recycler recycler;
static bool stop;

/*
 * Givers and takers, no readers.
 */
#define GIVERS 2
#define TAKERS 2
#define ROUND_TRIP 8

struct parcel {
	uint64_t number;
	unsigned giver;
	uint32_t taken;
	struct parcel *next;
	uint64_t contents;
};

struct giver {
	unsigned me;
	unsigned rounds;
};

struct taker {
	uint64_t newest[GIVERS];
	unsigned taken;
	unsigned errors;
};

static struct sheaf_gp_manual manual;
static unsigned givers_left;

static struct sheaf *parcel_sheaf(unsigned giver, uint64_t number)
{
	uint32_t capacity = 2 + (uint32_t)(number % 3);
	struct sheaf *sheaf = sheaf_init(malloc(sheaf_bytes(capacity)), capacity);

	for (uint32_t i = 0; i <= number % capacity; i++) {
		struct parcel *parcel = calloc(1, sizeof(*parcel));

		parcel->giver = giver;
		parcel->number = number;
		parcel->contents = number * 3 + giver;
		sheaf_push(sheaf, parcel);
	}
	return sheaf;
}

static void *give_on(void *arg)
{
	const struct giver *giver = arg;

	for (uint64_t number = 1; number <= giver->rounds; number++) {
		sheaf_recycler_give(&recycler, parcel_sheaf(giver->me, number));
		if (number % ROUND_TRIP == 0)
			sched_yield();
	}
	fetch_sub_release(&givers_left, 1);
	return NULL;
}

static void unpack(struct taker *taker, struct sheaf *sheaf)
{
	struct parcel *parcel = sheaf_peek(sheaf);
	uint64_t number = parcel->number;
	unsigned giver = parcel->giver;

	taker->taken++;
	taker->errors += !sheaf_gp_elapsed(&manual.gp, sheaf->ticket);
	taker->errors += number <= taker->newest[giver];
	taker->errors += sheaf->size != number % sheaf->capacity + 1;
	taker->newest[giver] = number;
	while ((parcel = sheaf_pop(sheaf)) != NULL) {
		taker->errors += parcel->giver != giver || parcel->number != number;
		taker->errors += parcel->contents != number * 3 + giver;
		taker->errors += exchange_relaxed(&parcel->taken, 1);
		free(parcel);
	}
	free(sheaf);
}

static void *take_on(void *arg)
{
	struct taker *taker = arg;
	bool last = false;

	for (;;) {
		struct sheaf *sheaf = sheaf_recycler_take(&recycler);

		if (sheaf)
			unpack(taker, sheaf);
		else if (last)
			break;
		else if (load_acquire(&stop))
			last = true;
		else
			test_pause();
	}
	return NULL;
}

static void *step_on(void *arg)
{
	(void)arg;
	while (load_acquire(&givers_left)) {
		sheaf_gp_manual_step(&manual);
		test_pause();
	}
	sheaf_gp_manual_step(&manual);
	store_release(&stop, true);
	return NULL;
}

START_TEST(each_sheaf_once_and_in_order)
{
	struct giver givers[GIVERS];
	struct taker takers[TAKERS] = {0};
	struct taker last = {0};
	struct sheaf_recycler_stats stats;
	pthread_t threads[GIVERS + TAKERS + 1];
	unsigned rounds = test_rounds(100000), taken = 0;
	struct sheaf *sheaf;

	sheaf_gp_manual_init(&manual, UINT64_MAX - 100);
	ck_assert_int_eq(sheaf_recycler_init(&recycler, &manual.gp, NULL), 0);
	stop = false;
	givers_left = GIVERS;
	for (unsigned i = 0; i < TAKERS; i++)
		pthread_create(&threads[i], NULL, take_on, &takers[i]);
	for (unsigned i = 0; i < GIVERS; i++) {
		givers[i] = (struct giver){i, rounds};
		pthread_create(&threads[TAKERS + i], NULL, give_on, &givers[i]);
	}
	pthread_create(&threads[GIVERS + TAKERS], NULL, step_on, NULL);
	for (unsigned i = 0; i < GIVERS + TAKERS + 1; i++)
		pthread_join(threads[i], NULL);
	ck_assert(sheaf_recycler_check(&recycler));
	/* A taker may have found another one inside, the last time it looked. */
	while ((sheaf = sheaf_recycler_take(&recycler)) != NULL)
		unpack(&last, sheaf);
	for (unsigned i = 0; i < TAKERS; i++) {
		ck_assert_uint_eq(takers[i].errors, 0);
		taken += takers[i].taken;
	}
	ck_assert_uint_eq(last.errors, 0);
	ck_assert_uint_eq(taken + last.taken, GIVERS * rounds);
	sheaf_recycler_stats(&recycler, &stats);
	ck_assert_uint_eq(stats.given, GIVERS * rounds);
	ck_assert_uint_eq(stats.taken, GIVERS * rounds);
	ck_assert_uint_eq(stats.objects, 0);
	ck_assert(sheaf_recycler_check(&recycler));
	ck_assert_int_eq(sheaf_recycler_fini(&recycler), 0);
}
END_TEST

/*
 * Readers and writers.
 */
#define PLACES 4
#define READERS 2
#define WRITERS 2
#define STOCK 64
#define LIVE UINT32_C(0x11111111)
#define POISON UINT32_C(0xdeadbeef)

struct node {
	uint32_t state;
	uint32_t generation;
	/* Plain, so that ThreadSanitizer judges the order. Only if the source is right. */
	uint64_t plain;
};

struct party {
	bool writer;
	bool plain;
	/* Nodes that come back are freed, and new ones made. */
	bool freed;
	uint64_t state;
	uint64_t end_ms;
	struct sheaf_gp *gp;
	struct sheaf *retired;
	struct sheaf *stock;
	unsigned done;
	unsigned errors;
};

static struct node *places[PLACES];

static void read_once(struct party *p)
{
	struct node *node;
	uint32_t generation;
	uint64_t plain;

	sheaf_gp_read_lock(p->gp);
	node = load_acquire(&places[test_below(&p->state, PLACES)]);
	generation = load_relaxed(&node->generation);
	plain = p->plain ? node->plain : 0;
	p->errors += load_relaxed(&node->state) != LIVE;
	for (uint64_t i = test_below(&p->state, 500); i; i--)
		compiler_barrier();
	if (!test_below(&p->state, 16))
		sched_yield();
	p->errors += load_relaxed(&node->state) != LIVE;
	p->errors += load_relaxed(&node->generation) != generation;
	if (p->plain)
		p->errors += node->plain != plain;
	sheaf_gp_read_unlock(p->gp);
	p->done++;
}

static struct sheaf *sheaf_make(uint32_t capacity)
{
	return sheaf_init(malloc(sheaf_bytes(capacity)), capacity);
}

static struct node *node_make(struct party *p)
{
	struct node *node = sheaf_pop(p->stock);

	return node ? node : calloc(1, sizeof(*node));
}

/* What is ripe can be used for anything. */
static void reuse(struct party *p, struct sheaf *sheaf)
{
	struct node *node;

	while ((node = sheaf_pop(sheaf)) != NULL) {
		store_relaxed(&node->state, POISON);
		store_relaxed(&node->generation, node->generation + 1);
		if (p->plain)
			node->plain++;
		if (p->freed || !sheaf_push(p->stock, node))
			free(node);
	}
	free(sheaf);
}

static void write_once(struct party *p)
{
	struct node *node = node_make(p);
	struct sheaf *ripe;

	store_relaxed(&node->generation, node->generation + 1);
	store_relaxed(&node->state, LIVE);
	if (p->plain)
		node->plain++;
	/* Exchange, and both orders: readers are to see it whole, and the next writer too. */
	node = __atomic_exchange_n(&places[test_below(&p->state, PLACES)], node, __ATOMIC_ACQ_REL);
	if (node)
		sheaf_push(p->retired, node);
	if (sheaf_full(p->retired)) {
		sheaf_recycler_give(&recycler, p->retired);
		p->retired = sheaf_make(2 + (uint32_t)test_below(&p->state, 3));
	}
	while ((ripe = sheaf_recycler_take(&recycler)) != NULL)
		reuse(p, ripe);
	p->done++;
}

static void *party_main(void *arg)
{
	struct party *p = arg;

	rcu_register_thread();
	do {
		for (unsigned i = 0; i < 20; i++)
			p->writer ? write_once(p) : read_once(p);
		/* One proof of guilt is enough. */
		if (p->errors)
			store_relaxed(&stop, true);
	} while (test_ms() < p->end_ms && !load_relaxed(&stop));
	rcu_unregister_thread();
	return NULL;
}

static unsigned read_and_write(struct sheaf_gp *gp, bool plain, bool freed, unsigned ms)
{
	struct party parties[READERS + WRITERS];
	struct sheaf *sheaf;
	unsigned errors = 0, done = 0;

	ck_assert_int_eq(sheaf_recycler_init(&recycler, gp, NULL), 0);
	stop = false;
	for (unsigned i = 0; i < READERS + WRITERS; i++)
		parties[i] = (struct party){
			.writer = i >= READERS,
			.plain = plain,
			.freed = freed,
			.gp = gp,
			.state = test_seed() + i,
			.end_ms = test_ms() + ms,
			.retired = sheaf_make(2),
			.stock = sheaf_make(STOCK),
		};
	for (unsigned i = 0; i < PLACES; i++) {
		places[i] = calloc(1, sizeof(*places[i]));
		places[i]->state = LIVE;
	}
	test_threads(READERS + WRITERS, party_main, parties, sizeof(parties[0]));
	ck_assert(sheaf_recycler_check(&recycler));
	/* No readers any more: what is ripe or not does not matter. */
	while ((sheaf = sheaf_recycler_drain(&recycler)) != NULL)
		reuse(&parties[READERS], sheaf);
	for (unsigned i = 0; i < READERS + WRITERS; i++) {
		struct party *p = &parties[i];

		done += p->done;
		errors += p->errors;
		p->freed = true;
		reuse(p, p->retired);
		reuse(p, p->stock);
	}
	for (unsigned i = 0; i < PLACES; i++)
		free(places[i]);
	ck_assert_uint_gt(done, 0);
	ck_assert_int_eq(sheaf_recycler_fini(&recycler), 0);
	return errors;
}

START_TEST(no_reader_sees_reuse)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = 1};
	struct sheaf_gp_urcu urcu;
	struct sheaf_recycler_stats stats;
	unsigned errors, runs = 0;

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr), 0);
	/* Where processors are scarce little may have come back in one run. */
	do {
		errors = read_and_write(&urcu.gp, true, _i, test_more(700));
		sheaf_recycler_stats(&recycler, &stats);
	} while (!errors && stats.taken <= 100 && ++runs < 10);
	sheaf_gp_urcu_fini(&urcu);
	ck_assert_uint_eq(errors, 0);
	ck_assert_uint_gt(stats.taken, 100);
}
END_TEST

static uint64_t hasty_ticket(struct sheaf_gp *gp)
{
	return load_relaxed(&gp->completed);
}

static int hasty_wait(struct sheaf_gp *gp, uint64_t ticket)
{
	(void)gp;
	(void)ticket;
	return 0;
}

static bool hasty_read_ongoing(struct sheaf_gp *gp)
{
	(void)gp;
	return false;
}

static const struct sheaf_gp_ops hasty_ops = {
	.name = "hasty",
	.ticket = hasty_ticket,
	.wait = hasty_wait,
	.read_ongoing = hasty_read_ongoing,
};

START_TEST(the_same_catches_a_hasty_source)
{
	struct sheaf_gp hasty = {
		.ops = &hasty_ops,
		.read_lock = rcu_flavor.read_lock,
		.read_unlock = rcu_flavor.read_unlock,
	};

	unsigned errors, runs = 0;

	/* On a machine that is busy elsewhere, readers may not meet the fault in one run. */
	do
		errors = read_and_write(&hasty, false, false, 1000);
	while (!errors && ++runs < 30);
	ck_assert_uint_gt(errors, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("recycler");
	TCase *tc = tcase_create("race");

	tcase_add_test(tc, each_sheaf_once_and_in_order);
	tcase_add_loop_test(tc, no_reader_sees_reuse, 0, 2);
	/* It reads freed memory when a writer's stock overflows: ASan catches it first. */
	if (!test_asan())
		tcase_add_test(tc, the_same_catches_a_hasty_source);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
