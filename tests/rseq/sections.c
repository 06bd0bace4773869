/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of each restartable sequence of a slot (slot_cpu.h): it does what its comment says,
 * or nothing when its condition is not met or it is interrupted; it is interrupted, and the
 * way out for that is taken; slot_do() gives up after a number of attempts. Then, with all
 * disturbances a process can meet: whatever threads, signal handlers and a remote party do with
 * the slots at once, no object and no sheaf is in two hands, none is lost, and none is changed
 * by somebody who does not own it.
 *
 * The library is compiled once more, with a pause before each committing store. Mutants of
 * it that fail the same storms are in mutants.c.
 */
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"
#include "hands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY 4
#define SHEAVES 4

/*
 * One thread alone on one CPU: a slot as it is, as it should be, and a model of the sequences.
 */
struct look {
	struct slot_sheaves held;
	struct sheaf *in; /* hand */
	uint32_t size[SHEAVES];
	uintptr_t object[SHEAVES][CAPACITY];
	/* Objects in hand: given, and got. */
	uint32_t n;
	uintptr_t got[CAPACITY];
};

static struct sheaf_cache *cache;
static char memory[SHEAVES][128] __attribute__((aligned(64)));

static struct sheaf *sheaf_at(unsigned i)
{
	return (struct sheaf *)memory[i];
}

static unsigned number_of(const struct sheaf *sheaf)
{
	return (unsigned)(((const char *)sheaf - memory[0]) / sizeof(memory[0]));
}

static struct cpu_slot *slot(void)
{
	return &cache->cpus.slots[storm_cpu[0]];
}

static void look_at(struct look *look)
{
	memset(look, 0, sizeof(*look));
	look->held = slot()->held;
	for (unsigned i = 0; i < SHEAVES; i++) {
		look->size[i] = sheaf_at(i)->size;
		for (uint32_t j = 0; j < look->size[i] && j < CAPACITY; j++)
			look->object[i][j] = (uintptr_t)sheaf_at(i)->objects[j];
	}
}

static bool model_push(struct look *look, unsigned to, uint32_t n, uintptr_t first)
{
	uint32_t room = CAPACITY - look->size[to], i;

	look->n = n < room ? n : room;
	for (i = 0; i < look->n; i++)
		look->object[to][look->size[to]++] = first + i;
	return look->n;
}

static bool model_pop(struct look *look, unsigned from, uint32_t n)
{
	uint32_t size = look->size[from], i;

	look->n = n < size ? n : size;
	look->size[from] -= look->n;
	for (i = 0; i < look->n; i++) {
		look->got[i] = look->object[from][size - look->n + i];
		look->object[from][size - look->n + i] = 0;
	}
	return look->n;
}

static bool model_install(struct look *look, struct sheaf **place)
{
	struct sheaf *was = *place;

	*place = look->in;
	look->in = was;
	return true;
}

/* What a section should do. False: its condition is not met. */
static bool model(struct look *look, enum section section, uint32_t n, uintptr_t first)
{
	unsigned main = number_of(look->held.main), rcu = number_of(look->held.rcu);
	struct sheaf **spare = &look->held.pair[look->held.pair[0] == look->held.main];

	switch (section) {
	case POP:
		return model_pop(look, main, 1);
	case POP_MANY:
		return model_pop(look, main, n);
	case PUSH:
		return model_push(look, main, 1, first);
	case PUSH_MANY:
		return model_push(look, main, n, first);
	case PUSH_RCU:
		return model_push(look, rcu, 1, first);
	case SWAP_FILLED:
		if (!look->size[number_of(*spare)])
			return false;
		break;
	case SWAP_ROOMY:
		if (look->size[number_of(*spare)] == CAPACITY)
			return false;
		break;
	case INSTALL_SPARE_IF_EMPTY:
		return !look->size[number_of(*spare)] && model_install(look, spare);
	case INSTALL_SPARE:
		return model_install(look, spare);
	case INSTALL_RCU_IF_FULL:
		return look->size[rcu] == CAPACITY && model_install(look, &look->held.rcu);
	case INSTALL_RCU:
		return model_install(look, &look->held.rcu);
	default:
		break;
	}
	look->held.main = *spare;
	return true;
}

/* Any sheaves at any place, with any number of objects. */
static void shuffle(uint64_t *state, uintptr_t *next)
{
	unsigned order[SHEAVES] = {0, 1, 2, 3};
	struct slot_sheaves *held = &slot()->held;

	for (unsigned i = SHEAVES; i > 1; i--) {
		unsigned j = (unsigned)test_below(state, i), was = order[j];

		order[j] = order[i - 1];
		order[i - 1] = was;
	}
	for (unsigned i = 0; i < SHEAVES; i++) {
		/* Empty and full ones are more interesting. */
		uint64_t n = test_below(state, CAPACITY + 4);

		sheaf_init(sheaf_at(i), CAPACITY);
		for (n = n > CAPACITY ? n % 2 * CAPACITY : n; n; n--)
			sheaf_push(sheaf_at(i), (void *)(*next)++);
	}
	held->pair[0] = sheaf_at(order[0]);
	held->pair[1] = sheaf_at(order[1]);
	held->main = held->pair[test_below(state, 2)];
	held->rcu = sheaf_at(order[2]);
}

/* The sheaf of the four that is not in the slot. */
static struct sheaf *left_over(void)
{
	const struct slot_sheaves *held = &slot()->held;
	unsigned i = 0;

	while (sheaf_at(i) == held->pair[0] || sheaf_at(i) == held->pair[1] ||
	       sheaf_at(i) == held->rcu)
		i++;
	return sheaf_at(i);
}

static enum section told;
static uint64_t told_state;
static uintptr_t next_object = 1;

/* The section once, and is it as told? */
static void as_told_once(unsigned me)
{
	void *objects[CAPACITY] = {NULL};
	uint32_t n = 1 + (uint32_t)test_below(&told_state, CAPACITY);
	uintptr_t first = next_object;
	struct slot_io io = {.n = n, .objects = objects};
	struct cpu_slots cpus = cache->cpus;
	struct look before, after, should;
	enum slot_did did;
	bool met, away;

	(void)me;
	next_object += CAPACITY;
	if (told != POP && told != POP_MANY)
		for (uint32_t i = 0; i < n; i++)
			objects[i] = (void *)(first + i);
	shuffle(&told_state, &next_object);
	if (told == POP || told == PUSH || told == PUSH_RCU)
		io.n = 1;
	look_at(&before);
	before.in = io.sheaf = left_over();
	should = before;
	met = model(&should, told, n, first);
	/* Now and then a remote party is there, or this CPU is one too many. */
	slot()->stop = !test_below(&told_state, 8);
	if (!test_below(&told_state, 8))
		cpus.n = storm_cpu[0];
	away = (slot()->stop && section_stops(told)) || cpus.n <= storm_cpu[0];
	did = section_do(&cpus, told, &io);
	look_at(&after);
	after.in = io.sheaf;
	if (did == SLOT_DID) {
		after.n = told < SWAP ? io.n : 0;
		if (told == POP || told == POP_MANY)
			memcpy(after.got, objects, io.n * sizeof(objects[0]));
	}
	if (did != SLOT_DID)
		should = before;
	if (did != SLOT_ABORTED && did != (away ? SLOT_AWAY : met ? SLOT_DID : SLOT_UNMET))
		storm_fault(FAULT_CONDITION);
	if (memcmp(&after, &should, sizeof(after)))
		storm_fault(FAULT_CHANGED);
	storm_now->counts[did]++;
}

static bool begin_alone(void)
{
	const struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = 64, .slots = SHEAF_SLOTS_CPU};

	storm_pin(0, storm_cpu[0]);
	return sheaf_cache_create(&cache, &attr) == 0 && cache->cpus.n;
}

static void nothing_at(unsigned me)
{
	(void)me;
}

static void nothing(void)
{
}

/* Each outcome that there is came. */
static bool told_enough(void)
{
	bool unmet = told != SWAP && told != INSTALL_SPARE && told != INSTALL_RCU;

	return load_relaxed(&storm_now->counts[SLOT_DID]) >= 100 &&
	       load_relaxed(&storm_now->counts[SLOT_AWAY]) >= 10 &&
	       load_relaxed(&storm_now->counts[SLOT_ABORTED]) >= 10 &&
	       (!unmet || load_relaxed(&storm_now->counts[SLOT_UNMET]) >= 10);
}

START_TEST(as_told)
{
	struct storm storm = {
		.threads = 1,
		.disturbances = STORM_SIGNALS,
		.ms = test_rounds(20),
		.seed = test_seed(),
		.begin = begin_alone,
		.work = as_told_once,
		.interrupt = nothing_at,
		.enough = told_enough,
		.end = nothing,
	};
	struct storm_report report;

	told = (enum section)_i;
	told_state = test_seed() + (uint64_t)_i;
	report = storm_run(&storm);
	ck_assert_msg(storm_clean(&report), "%s: %s", section_name(told), storm_text(&report));
	ck_assert_uint_gt(report.counts[SLOT_ABORTED], 0);
}
END_TEST

/* Pauses that are longer than the time from signal to signal: no sequence gets to its end. */
static void give_up_once(unsigned me)
{
	void *objects[CAPACITY] = {NULL};
	struct slot_io io = {.n = 1, .objects = objects};
	struct look before, after;
	uint64_t aborts = cache->aborts;
	enum slot_did did;
	bool same;

	(void)me;
	shuffle(&told_state, &next_object);
	look_at(&before);
	io.sheaf = told >= SWAP ? left_over() : NULL;
	did = slot_do(cache, section_op(told), told_state % 2, &io);
	look_at(&after);
	same = !memcmp(&before, &after, sizeof(before));
	if (did == SLOT_DID ? same : !same)
		storm_fault(FAULT_CHANGED);
	if (did != SLOT_AWAY)
		return;
	if (cache->aborts == aborts)
		storm_fault(FAULT_CONDITION);
	storm_now->counts[SLOT_AWAY]++;
	storm_now->counts[SLOT_ABORTED] += cache->aborts - aborts;
}

static bool gave_up(void)
{
	return load_relaxed(&storm_now->counts[SLOT_AWAY]) > 0;
}

START_TEST(gives_up)
{
	struct storm storm = {
		.threads = 1,
		.disturbances = STORM_SIGNALS,
		.pause = 1000000,
		.seed = test_seed(),
		.begin = begin_alone,
		.work = give_up_once,
		.interrupt = nothing_at,
		.enough = gave_up,
		.end = nothing,
	};
	struct storm_report report;

	told = (enum section)_i;
	told_state = test_seed() + (uint64_t)_i;
	report = storm_run(&storm);
	ck_assert_msg(storm_clean(&report), "%s: %s", section_name(told), storm_text(&report));
	ck_assert_uint_gt(report.counts[SLOT_ABORTED], report.counts[SLOT_AWAY]);
}
END_TEST

static const unsigned disturbances[] = {
	0,
	STORM_SIGNALS,
	STORM_STOPS,
	STORM_MOVES,
	STORM_STEPS,
	STORM_TAKE_OVERS,
	STORM_SIGNALS | STORM_MOVES | STORM_TAKE_OVERS,
	STORM_SIGNALS | STORM_STOPS | STORM_MOVES | STORM_TAKE_OVERS,
};

#define DISTURBANCES (sizeof(disturbances) / sizeof(disturbances[0]))

/* What a storm did, for who reads the log of a full run. */
static void tell(enum section section, unsigned of, const struct storm_report *report)
{
	uint64_t calls = 0, signals = 0;

	for (unsigned i = 0; i < STORM_THREADS; i++) {
		calls += report->thread[i].calls;
		signals += report->thread[i].signals;
	}
	printf("# %s, %s%s: %llu calls, %llu signals, %llu stops, %llu moves, %llu take-overs, "
	       "%llu steps over %llu calls; %llu did, %llu unmet, %llu away, %llu aborted, "
	       "%llu inside\n",
	       section_name(section), storm_disturbances(of),
	       report->refused ? " (refused here)" : "", (unsigned long long)calls,
	       (unsigned long long)signals, (unsigned long long)report->stops,
	       (unsigned long long)report->moves, (unsigned long long)report->take_overs,
	       (unsigned long long)report->steps, (unsigned long long)report->stepped_calls,
	       (unsigned long long)report->counts[COUNT_OUTCOMES + SLOT_DID],
	       (unsigned long long)report->counts[COUNT_OUTCOMES + SLOT_UNMET],
	       (unsigned long long)report->counts[COUNT_OUTCOMES + SLOT_AWAY],
	       (unsigned long long)report->counts[COUNT_OUTCOMES + SLOT_ABORTED],
	       (unsigned long long)report->counts[COUNT_ABORTS]);
	fflush(stdout);
}

/* In a full run a minute for each section. */
START_TEST(nothing_lost)
{
	enum section section = (enum section)(_i / DISTURBANCES);
	unsigned of = disturbances[_i % DISTURBANCES];
	struct storm storm = hands_storm(section, of, test_more(60), test_seed());
	struct storm_report report = storm_run(&storm);

	tell(section, of, &report);
	ck_assert_msg(storm_clean(&report), "%s, %s: %s", section_name(section),
		      storm_disturbances(of), storm_text(&report));
	if (of & STORM_SIGNALS && !report.refused)
		ck_assert_uint_gt(report.counts[COUNT_OUTCOMES + SLOT_ABORTED] +
					  report.counts[COUNT_ABORTS],
				  0);
	if (of & STORM_STEPS && !report.refused) {
		ck_assert_uint_gt(report.stepped_calls, 0);
		ck_assert_uint_gt(report.counts[COUNT_ROUND], 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite;
	TCase *tc;

	if (!storm_possible())
		return EXIT_SUCCESS;
	test_seed();
	suite = suite_create("rseq");
	tc = tcase_create("sections");
	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, as_told, 0, SECTIONS);
	tcase_add_loop_test(tc, gives_up, 0, SECTIONS);
	tcase_add_loop_test(tc, nothing_lost, 0, SECTIONS * DISTURBANCES);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
