/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves of debug mode, in every interleaving of its atomic accesses (of two and three threads, and of a
 * thread and its signal handler, up to a number of preemptions, as far as the runs go): of all who give an
 * object back, by whatever calls, one does, and each other one is told, in words that fit what the first one
 * did; the object is in one place then. What is in quarantine is in one place, too, also when it is emptied meanwhile. And of the book: who enter an
 * address at the same time have the same entry, which is in the list once; no entry is lost where
 * two addresses have the same bits for a while; and an old one is found while others make room. Owners who take
 * an address at the same time have an entry each, one owner has one. What a cache gives back while it ends is
 * another one's to use at once, and whose it was can be told at any time. A guard is one party's.
 */
#include "base/membarrier.h"
#include "common.h"
#include "debug_state.h"
#include "schedule.h"
#include "watch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SIZE 16
#define OBJECTS 64
#define KINDS 16

/* The same objects in each run, so that the book looks the same. */
static _Alignas(16) char memory[OBJECTS][SIZE];
static bool out[OBJECTS];
/* Those before are not to be had. */
static unsigned first;
static unsigned errors;

static size_t take(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	size_t got = 0;

	(void)ctx;
	(void)node;
	for (unsigned i = first; i < OBJECTS && got < n && !(flags & SHEAF_NOWAIT); i++)
		if (!out[i]) {
			out[i] = true;
			objects[got++] = memory[i];
		}
	return got;
}

static void give(void *ctx, size_t n, void *const *objects)
{
	(void)ctx;
	for (size_t k = 0; k < n; k++) {
		size_t i = (size_t)((char *)objects[k] - memory[0]) / SIZE;

		errors += !out[i];
		out[i] = false;
	}
}

static const struct sheaf_backend_ops ops = {
	.name = "still", .alloc_bulk = take, .free_bulk = give};

/* By which call somebody gives an object back. */
enum how { NOBODY, FREE, FREE_BULK, FREE_NOWAIT, RETIRE, RETIRE_NOWAIT };

struct play {
	const char *name;
	unsigned threads;
	enum how how[SCHEDULE_THREADS];
	enum how handler;
	/* Each has objects of his own, and there is a quarantine of one place. */
	bool apart;
	/* The last thread gives everything back instead. */
	bool shrink;
};

static const struct play *play;
static struct sheaf_gp_manual manual;
static struct sheaf_cache *cache;
static char *object[SCHEDULE_THREADS][2];
/* Calls made with the object of thread 0, and what was reported. */
static unsigned frees, retires, reports;
static unsigned of_kind[KINDS];

static void on_report(void *arg, const struct sheaf_debug_report *report)
{
	(void)arg;
	reports++;
	errors += report->object != object[0][0] || report->kind >= KINDS;
	of_kind[report->kind % KINDS]++;
}

static struct sheaf_cache *make(const char *name, struct sheaf_debug_attr debug)
{
	const struct sheaf_cache_attr attr = {.size = sizeof(attr),
					      .object_size = SIZE,
					      .name = name,
					      .capacity = 2,
					      .nodes = 1,
					      .backend = {.ops = &ops},
					      .gp = &manual.gp,
					      .debug = &debug};
	struct sheaf_cache *made = NULL;

	debug.size = sizeof(debug);
	debug.flags = SHEAF_DEBUG_POISON;
	errors += sheaf_cache_create(&made, &attr) != 0;
	return made;
}

static void begin(void)
{
	errors = frees = retires = reports = 0;
	memset(of_kind, 0, sizeof(of_kind));
	sheaf_gp_manual_init(&manual, 0);
	cache = make("given",
		     (struct sheaf_debug_attr){.quarantine = play->apart, .report = on_report});
	for (unsigned i = 0; i < play->threads; i++)
		for (unsigned k = 0; k < 2; k++)
			if ((i == 0 && k == 0) || play->apart)
				object[i][k] = sheaf_cache_alloc(cache, 0);
}

static void give_back(enum how how, void *what)
{
	frees += how == FREE || how == FREE_BULK || how == FREE_NOWAIT;
	retires += how == RETIRE || how == RETIRE_NOWAIT;
	if (how == FREE)
		sheaf_cache_free(cache, what);
	else if (how == FREE_BULK)
		sheaf_cache_free_bulk(cache, 1, &what);
	else if (how == FREE_NOWAIT)
		sheaf_cache_free_nowait(cache, what);
	else if (how == RETIRE)
		sheaf_cache_free_rcu(cache, what);
	else
		sheaf_cache_free_rcu_nowait(cache, what);
}

static void run(unsigned me)
{
	/* Each thread has a slot, whoever comes first. */
	schedule_alone(true);
	sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
	schedule_alone(false);
	if (play->shrink && me == play->threads - 1)
		sheaf_cache_shrink(cache);
	else
		give_back(play->how[me], object[play->apart ? me : 0][0]);
	if (play->apart)
		give_back(play->how[me], object[me][1]);
	if (play->shrink && me == play->threads - 1)
		give_back(play->how[me], object[me][0]);
}

static void handle(void)
{
	give_back(play->handler, object[0][0]);
}

/* One did it, and each other one was told what that was. */
static bool all_told(void)
{
	enum object_state state = object_state(object_find(object[0][0]));

	if (state == OBJECT_FREE)
		return of_kind[SHEAF_DEBUG_DOUBLE_FREE] == frees - 1 &&
		       of_kind[SHEAF_DEBUG_RETIRE_FREE] == retires;
	return state == OBJECT_RETIRED && of_kind[SHEAF_DEBUG_FREE_RETIRED] == frees &&
	       of_kind[SHEAF_DEBUG_RETIRE_TWICE] == retires - 1;
}

static const char *end(void)
{
	bool told = play->apart ? reports == 0 : reports == frees + retires - 1 && all_told();

	if (sheaf_cache_barrier(cache) == -EDEADLK)
		sheaf_gp_manual_step(&manual);
	errors += !sheaf_cache_check(cache);
	if (!told)
		return "somebody is not told, or wrongly";
	if (sheaf_cache_destroy(cache, NULL))
		return "an object is lost";
	for (unsigned i = 0; i < OBJECTS; i++)
		errors += out[i];
	return errors ? "an object in two places" : NULL;
}

/* All decisions with one preemption, those with two as far as there is time, and some by chance. */
static void go(struct schedule schedule, const char *name)
{
	struct schedule_result result;

	/* What happens only once in a process must not happen in the first run. Where it is refused
	 * slots are always entered as if somebody stopped them, and all of this holds as well. */
	if (!membarrier_ready())
		printf("# %s: without membarrier(2)\n", name);
	schedule.preemptions = 2;
	schedule.runs = test_rounds(4000);
	schedule_deepen(&schedule, 1, name);
	schedule.preemptions = 20;
	schedule.runs = test_rounds(500);
	schedule.seed = test_seed();
	result = schedule_run(&schedule);
	ck_assert_msg(!result.error, "%s: %s, run %u", name, result.error, result.runs);
}

static const struct play plays[] = {
	{.name = "two free", .threads = 2, .how = {FREE, FREE}},
	{.name = "two retire", .threads = 2, .how = {RETIRE, RETIRE}},
	{.name = "free, retire", .threads = 2, .how = {FREE, RETIRE}},
	{.name = "free in bulk, free nowait", .threads = 2, .how = {FREE_BULK, FREE_NOWAIT}},
	{.name = "retire nowait, free", .threads = 2, .how = {RETIRE_NOWAIT, FREE}},
	{.name = "three", .threads = 3, .how = {FREE, RETIRE, FREE_NOWAIT}},
	{.name = "free, a handler frees", .threads = 1, .how = {FREE}, .handler = FREE_NOWAIT},
	{.name = "free, a handler retires", .threads = 1, .how = {FREE}, .handler = RETIRE_NOWAIT},
	{.name = "retire, a handler frees", .threads = 1, .how = {RETIRE}, .handler = FREE_NOWAIT},
	{.name = "two threads, a handler frees",
	 .threads = 2,
	 .how = {RETIRE, FREE},
	 .handler = FREE_NOWAIT},
	{.name = "quarantine", .threads = 2, .how = {FREE, FREE}, .apart = true},
	{.name = "quarantine nowait", .threads = 2, .how = {FREE, FREE_NOWAIT}, .apart = true},
	{.name = "quarantine, shrink",
	 .threads = 2,
	 .how = {FREE, FREE},
	 .apart = true,
	 .shrink = true},
};

START_TEST(one_gives_it_back)
{
	struct schedule schedule = {
		.threads = plays[_i].threads,
		.begin = begin,
		.run = run,
		.end = end,
		.handler = plays[_i].handler != NOBODY ? handle : NULL,
	};

	/* All are in the book before the first run. */
	for (unsigned i = 0; i < OBJECTS; i++)
		ck_assert_ptr_nonnull(object_make(memory[i]));
	play = &plays[_i];
	go(schedule, play->name);
}
END_TEST

/*
 * A cache ends. What it has given back is another one's meanwhile, and somebody is told whose a pointer is.
 */
#define ENDS 8

static struct sheaf_cache *ending;
static bool given_back;

static void on_owner(void *arg, const struct sheaf_debug_report *report)
{
	(void)arg;
	reports++;
	errors += report->kind != SHEAF_DEBUG_WRONG_CACHE && report->kind != SHEAF_DEBUG_NO_OBJECT;
	errors += report->owner && strcmp(report->owner, "ends") != 0;
	errors += !report->owner && report->kind == SHEAF_DEBUG_WRONG_CACHE;
}

static void begin_ending(void)
{
	void *objects[ENDS];

	errors = reports = first = 0;
	sheaf_gp_manual_init(&manual, 0);
	ending = make("ends", (struct sheaf_debug_attr){0});
	errors += sheaf_cache_alloc_bulk(ending, 0, ENDS, objects) != ENDS;
	sheaf_cache_free_bulk(ending, ENDS, objects);
	if (given_back)
		sheaf_cache_shrink(ending);
	first = ENDS;
	cache = make("goes on", (struct sheaf_debug_attr){.report = on_owner});
}

static void end_and_use(unsigned me)
{
	void *objects[ENDS];

	if (me == 0) {
		errors += sheaf_cache_destroy(ending, NULL) != 0;
		return;
	}
	schedule_alone(true);
	sheaf_cache_free(cache, sheaf_cache_alloc(cache, 0));
	schedule_alone(false);
	if (given_back) {
		first = 0;
		errors += sheaf_cache_alloc_bulk(cache, 0, ENDS, objects) != ENDS;
		sheaf_cache_free_bulk(cache, ENDS, objects);
	} else {
		sheaf_cache_free(cache, memory[0]);
	}
}

static const char *end_ending(void)
{
	errors += !sheaf_cache_check(cache) || sheaf_cache_destroy(cache, NULL) != 0;
	for (unsigned i = 0; i < OBJECTS; i++)
		errors += out[i];
	if (reports != (given_back ? 0 : 1))
		return "what is right is told of, or what is wrong is not";
	return errors ? "a report is wrong, or an object is lost" : NULL;
}

START_TEST(a_cache_ends_meanwhile)
{
	const struct schedule schedule = {
		.threads = 2, .begin = begin_ending, .run = end_and_use, .end = end_ending};

	for (unsigned i = 0; i < OBJECTS; i++)
		ck_assert_ptr_nonnull(object_make(memory[i]));
	given_back = _i;
	go(schedule, _i ? "ends, its memory is used" : "ends, its object is told of");
}
END_TEST

/*
 * Guards, which all are there before.
 */
#define GUARDS 2

static unsigned used[GUARDS];

static void begin_guards(void)
{
	struct debug_object *o[GUARDS];

	errors = 0;
	memset(used, 0, sizeof(used));
	sheaf_gp_manual_init(&manual, 0);
	cache = make("guarded", (struct sheaf_debug_attr){.sample = 1, .guards = GUARDS});
	for (unsigned i = 0; i < GUARDS; i++)
		errors += (o[i] = guard_take(cache->watch->debug)) == NULL;
	for (unsigned i = 0; i < GUARDS; i++)
		guard_give(cache->watch->debug, o[i]);
}

static void use_guards(unsigned me)
{
	struct debug *d = cache->watch->debug;

	(void)me;
	for (unsigned i = 0; i < 2; i++) {
		struct debug_object *o = guard_take(d);
		unsigned n;

		if (!o)
			continue;
		n = (unsigned)(o->place - d->guards);
		errors += used[n]++ != 0;
		*(char *)o->object = 1;
		schedule_point();
		used[n]--;
		guard_give(d, o);
	}
}

static const char *end_guards(void)
{
	for (unsigned i = 0; i < GUARDS; i++)
		errors += cache->watch->debug->guards[i].state != GUARD_FREE;
	errors += sheaf_cache_destroy(cache, NULL) != 0;
	return errors ? "two have one guard, or one is lost" : NULL;
}

START_TEST(a_guard_is_one_party_s)
{
	const struct schedule schedule = {.threads = 2 + (unsigned)_i,
					  .begin = begin_guards,
					  .run = use_guards,
					  .end = end_guards};

	go(schedule, _i ? "guards, three" : "guards");
}
END_TEST

/*
 * The book. Addresses that are never looked at. It only grows, so each run has a branch of its own: PREFIX bits
 * that no other run has, with a node at their end.
 */
#define PREFIX 24

static uint64_t branch;
static struct debug_object *newest, *old, *made[SCHEDULE_THREADS];
static unsigned enters;
static bool same;

/* The other way round. */
static void *of_bits(uint64_t bits)
{
	uint64_t one = object_bits((void *)1), factor = one ^ one >> 32, inverse = factor;

	for (unsigned i = 0; i < 6; i++)
		inverse *= 2 - factor * inverse;
	return (void *)(uintptr_t)((bits ^ bits >> 32) * inverse);
}

/* In this run's branch, by the bits that come next. */
static void *address(uint64_t next)
{
	return of_bits(next << PREFIX | branch);
}

/* Thread t's: alike for 8 bits more, if they are not the same. */
static void *address_of(unsigned t)
{
	return address(same ? 0x151 : UINT64_C(0x51) | (uint64_t)(t + 1) << 8);
}

static void begin_book(void)
{
	branch++;
	errors = 0;
	old = NULL;
	memset(made, 0, sizeof(made));
	errors += !object_make(address(2)) || !object_make(address(3));
	newest = object_first();
}

static void begin_split(void)
{
	begin_book();
	old = object_make(address(0x951));
	newest = object_first();
}

static void enter(unsigned me)
{
	made[me] = object_make(address_of(me));
}

static void enter_or_find(unsigned me)
{
	if (me < enters)
		enter(me);
	else
		errors += object_find(old->object) != old;
}

/* How often an address is in the list, of what came in this run. */
static unsigned listed(const void *what)
{
	unsigned n = 0;

	for (struct debug_object *o = object_first(); o != newest; o = o->next)
		n += o->object == what;
	return n;
}

static const char *end_book(void)
{
	for (unsigned t = 0; t < enters; t++) {
		if (!made[t] || made[t]->object != address_of(t))
			return "a wrong entry";
		if (object_find(address_of(t)) != made[t])
			return "an entry is lost";
		if (listed(address_of(t)) != 1)
			return "an entry is not in the list once";
	}
	if (old && object_find(old->object) != old)
		return "an old entry is lost";
	return errors ? "an old entry is not found" : NULL;
}

static const struct {
	const char *name;
	unsigned threads, enters;
	bool same, split;
} books[] = {
	{"one address", 2, 2, true, false},
	{"one address: three threads", 3, 3, true, false},
	{"addresses alike", 2, 2, false, false},
	{"addresses alike: three threads", 3, 3, false, false},
	{"an address like an old one", 2, 2, true, true},
	{"addresses like an old one", 2, 2, false, true},
	{"addresses like an old one that is looked for", 3, 2, false, true},
};

START_TEST(no_entry_is_lost)
{
	struct schedule schedule = {
		.threads = books[_i].threads,
		.begin = books[_i].split ? begin_split : begin_book,
		.run = enter_or_find,
		.end = end_book,
	};

	enters = books[_i].enters;
	same = books[_i].same;
	ck_assert_uint_eq(object_bits(of_bits(UINT64_C(0x123456789abcdef0))),
			  UINT64_C(0x123456789abcdef0));
	go(schedule, books[_i].name);
}
END_TEST

/*
 * Owners of an address.
 */
static struct debug_owner *holders[SCHEDULE_THREADS];
static bool took[SCHEDULE_THREADS];

static void take_address(unsigned me)
{
	made[me] = object_take(address_of(0), holders[same ? 0 : me], &took[me]);
}

static const char *end_owners(void)
{
	unsigned taken = 0;

	for (unsigned t = 0; t < enters; t++) {
		uintptr_t whose = whose_word(holders[same ? 0 : t], OBJECT_COMING);

		taken += took[t];
		if (!made[t] || made[t]->object != address_of(0) || made[t]->whose != whose)
			return "a wrong entry";
		if (object_find_of(address_of(0), whose_owner(whose)) != made[t])
			return "an entry is lost";
	}
	if (taken != (same ? 1 : enters))
		return "an owner has it twice, or not";
	if (listed(address_of(0)) != taken)
		return "the stack is too high";
	return errors ? "an old entry is not found" : NULL;
}

/* All different, or all the same. */
START_TEST(owners_have_their_entries)
{
	const struct schedule schedule = {.threads = 2 + (_i & 1),
					  .begin = _i & 4 ? begin_split : begin_book,
					  .run = take_address,
					  .end = end_owners};

	enters = schedule.threads;
	same = _i & 2;
	for (unsigned t = 0; t < enters; t++)
		ck_assert_ptr_nonnull(holders[t] = owner_take("holder"));
	go(schedule, same ? "one owner" : "owners");
}
END_TEST

/* A name of this run: one is there already, two are to be made. */
static char name[24];

static void begin_names(void)
{
	static unsigned run;

	snprintf(name, sizeof(name), "name %u", run++);
	owner_give(owner_take(name));
}

static void take_name(unsigned me)
{
	holders[me] = owner_take(name);
}

static const char *end_names(void)
{
	for (unsigned t = 0; t < 3; t++)
		if (!holders[t] || strcmp(holders[t]->name, name) != 0)
			return "an owner has another name";
	if (holders[0] == holders[1] || holders[0] == holders[2] || holders[1] == holders[2])
		return "an owner is two caches'";
	return NULL;
}

START_TEST(owners_are_of_one_cache)
{
	const struct schedule schedule = {
		.threads = 3, .begin = begin_names, .run = take_name, .end = end_names};

	go(schedule, "names");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("debug");
	TCase *tc = tcase_create("interleave");

	tcase_set_timeout(tc, test_full() ? 3600 : 60);
	tcase_add_loop_test(tc, one_gives_it_back, 0, sizeof(plays) / sizeof(plays[0]));
	tcase_add_loop_test(tc, a_cache_ends_meanwhile, 0, 2);
	tcase_add_loop_test(tc, a_guard_is_one_party_s, 0, 2);
	tcase_add_loop_test(tc, no_entry_is_lost, 0, sizeof(books) / sizeof(books[0]));
	tcase_add_loop_test(tc, owners_have_their_entries, 0, 8);
	tcase_add_test(tc, owners_are_of_one_cache);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
