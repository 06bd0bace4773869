/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of memory for Concurrency Kit's containers that readers beside writers never find a
 * block used again, whether the writer frees the old one or moves it by realloc and publishes
 * late; and that threads which come for the same classes at the same time lose none. Over a
 * source whose tickets elapse at once the same test must fail, which proves that it can.
 * ThreadSanitizer sees a reader that is not ordered before the reuse.
 */
#include <urcu/urcu-memb.h>

#include <sheaf/ck_malloc.h>

#include "base/atomic.h"
#include "common.h"

#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define WRITERS 2
#define READERS 2
#define PARTIES (READERS + WRITERS)
#define MAKERS 4
#define SIZES 40

/* What a writer publishes: words that are all the same. */
struct table {
	uint64_t words;
	uint64_t word[];
};

struct party {
	struct table **place;
	bool writer;
	bool plain;
	size_t most;
	uint64_t state;
	uint64_t end_ms;
	struct sheaf_gp *gp;
	unsigned done;
	unsigned errors;
};

static struct sheaf_ck_memory memory;
SHEAF_CK_MALLOC(allocator, &memory);

static struct table *places[WRITERS];
static bool stop;

static size_t table_bytes(uint64_t words)
{
	return sizeof(struct table) + words * sizeof(uint64_t);
}

/* Not atomic, for ThreadSanitizer; only if the source is right. */
static uint64_t get(const struct party *p, const uint64_t *word)
{
	return p->plain ? *word : load_relaxed(word);
}

static void set(const struct party *p, uint64_t *word, uint64_t value)
{
	if (p->plain)
		*word = value;
	else
		store_relaxed(word, value);
}

static void pause_a_little(struct party *p)
{
	if (!test_below(&p->state, 8))
		sched_yield();
}

static void read_once(struct party *p)
{
	const struct table *table;
	uint64_t words, first;

	sheaf_gp_read_lock(p->gp);
	table = load_acquire(&places[test_below(&p->state, WRITERS)]);
	if (table) {
		words = get(p, &table->words);
		first = get(p, &table->word[0]);
		pause_a_little(p);
		p->errors += get(p, &table->words) != words;
		for (uint64_t i = 0; i < words && !p->errors; i++)
			p->errors += get(p, &table->word[i]) != first;
		p->done++;
	}
	sheaf_gp_read_unlock(p->gp);
}

static void write_once(struct party *p)
{
	struct table *old = *p->place, *table;
	size_t old_bytes = old ? table_bytes(old->words) : 0;
	uint64_t words = 1 + test_below(&p->state, 1 + test_below(&p->state, p->most));
	bool move = old && old->words <= p->most && test_below(&p->state, 2);

	if (move) {
		/* To another class: in a block that stays, readers would see words change. */
		words += 2 * old->words + 16;
		table = allocator.realloc(old, old_bytes, table_bytes(words), true);
	} else {
		table = allocator.malloc(table_bytes(words));
	}
	if (!table) {
		p->errors++;
		return;
	}
	set(p, &table->words, words);
	for (uint64_t i = 0; i < words; i++)
		set(p, &table->word[i], p->done);
	pause_a_little(p);
	store_release(p->place, table);
	if (!move && old)
		allocator.free(old, old_bytes, true);
	p->done++;
}

static void *party_main(void *arg)
{
	struct party *p = arg;

	rcu_register_thread();
	do {
		for (unsigned i = 0; i < 20; i++)
			p->writer ? write_once(p) : read_once(p);
		if (p->writer && !test_below(&p->state, 100))
			sheaf_ck_memory_shrink(&memory);
		if (p->errors)
			store_relaxed(&stop, true);
	} while (test_ms() < p->end_ms && !load_relaxed(&stop));
	rcu_unregister_thread();
	return NULL;
}

/* Tables have at most this many words, and about three times as many when they have moved. */
static unsigned read_and_write(struct sheaf_gp *gp, bool plain, size_t most, unsigned ms)
{
	struct party parties[PARTIES];
	unsigned errors = 0, done = 0;

	ck_assert_int_eq(sheaf_ck_memory_init(&memory, gp), 0);
	stop = false;
	for (unsigned i = 0; i < PARTIES; i++)
		parties[i] = (struct party){
			.place = &places[i % WRITERS],
			.writer = i < WRITERS,
			.plain = plain,
			.most = most,
			.gp = gp,
			.state = test_seed() + i,
			.end_ms = test_ms() + ms,
		};
	test_threads(PARTIES, party_main, parties, sizeof(parties[0]));
	for (unsigned i = 0; i < PARTIES; i++) {
		done += parties[i].done;
		errors += parties[i].errors;
	}
	ck_assert_uint_gt(done, 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		if (!places[i])
			continue;
		allocator.free(places[i], table_bytes(places[i]->words), false);
		places[i] = NULL;
	}
	return errors;
}

static void all_back(void)
{
	size_t live;

	ck_assert_int_eq(sheaf_ck_memory_fini(&memory, &live), 0);
	ck_assert_uint_eq(live, 0);
}

START_TEST(no_reader_sees_reuse)
{
	const struct sheaf_gp_driver_attr attr = {.size = sizeof(attr), .spacing_us = 1};
	struct sheaf_gp_urcu urcu;

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &attr), 0);
	/* With blocks from caches, and with large ones as well. */
	ck_assert_uint_eq(
		read_and_write(&urcu.gp, true, _i ? 12000 : 200, test_more(700)), 0);
	all_back();
	sheaf_gp_urcu_fini(&urcu);
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

/* In a child, since what it provokes may also end the program. */
START_TEST(the_same_catches_a_hasty_source)
{
	struct sheaf_gp hasty = {
		.ops = &hasty_ops,
		.read_lock = rcu_flavor.read_lock,
		.read_unlock = rcu_flavor.read_unlock,
	};
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		unsigned tries = 12;

		alarm(50);
		while (tries-- && !status)
			status = read_and_write(&hasty, false, 200, 2000) != 0;
		_exit(status);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_ne(status, 0);
	ck_assert(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM);
}
END_TEST

/*
 * The first blocks of all classes, in all threads, in read sections or outside.
 */
struct maker {
	uint64_t state;
	pthread_barrier_t *barrier;
	bool inside;
	unsigned errors;
};

static void *make_classes(void *arg)
{
	struct maker *m = arg;
	size_t sizes[SIZES];
	char *blocks[SIZES];

	rcu_register_thread();
	pthread_barrier_wait(m->barrier);
	if (m->inside)
		rcu_read_lock();
	for (unsigned i = 0; i < SIZES; i++) {
		sizes[i] = (size_t)1 << test_below(&m->state, 18);
		blocks[i] = allocator.malloc(sizes[i]);
		if (!blocks[i]) {
			m->errors++;
			sizes[i] = 0;
		} else {
			blocks[i][0] = (char)i;
		}
	}
	for (unsigned i = 0; i < SIZES; i++) {
		m->errors += sizes[i] && blocks[i][0] != (char)i;
		allocator.free(blocks[i], sizes[i], i % 2);
	}
	if (m->inside)
		rcu_read_unlock();
	rcu_unregister_thread();
	return NULL;
}

START_TEST(classes_are_made_once)
{
	struct maker makers[MAKERS];
	struct sheaf_gp_urcu urcu;
	pthread_barrier_t barrier;

	ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, NULL), 0);
	pthread_barrier_init(&barrier, NULL, MAKERS);
	for (unsigned round = test_rounds(50); round; round--) {
		ck_assert_int_eq(sheaf_ck_memory_init(&memory, &urcu.gp), 0);
		for (unsigned i = 0; i < MAKERS; i++)
			makers[i] = (struct maker){
				.state = test_seed() + round * MAKERS + i,
				.barrier = &barrier,
				.inside = _i,
			};
		test_threads(MAKERS, make_classes, makers, sizeof(makers[0]));
		for (unsigned i = 0; i < MAKERS; i++)
			ck_assert_uint_eq(makers[i].errors, 0);
		all_back();
	}
	pthread_barrier_destroy(&barrier);
	sheaf_gp_urcu_fini(&urcu);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("ck_malloc");
	TCase *tc = tcase_create("race");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, no_reader_sees_reuse, 0, 2);
	/* Sanitizers would report what this one provokes. */
	if (!test_asan() && !test_tsan())
		tcase_add_test(tc, the_same_catches_a_hasty_source);
	tcase_add_loop_test(tc, classes_are_made_once, 0, 2);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
