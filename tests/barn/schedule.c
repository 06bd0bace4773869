/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * One real thread per party, so that thread-local storage is what it is; a baton
 * goes from one to the next, all on one CPU. A decision is a number below the number of
 * threads that could go on; 0 is "the one that runs, if it can". The decisions of a run are
 * kept; the next run repeats them up to the last one that has another way to go.
 */
#define _GNU_SOURCE
#include "schedule.h"

#include "base/futex.h"
#include "common.h"

#include <errno.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

/* The threads of a case, and one that the library may make. */
#define PARTIES (SCHEDULE_THREADS + 1)
#define DECISIONS_MOST 20000
/* Cases of which all has to be tried are smaller. */
#define WHOLE_MOST 100000
/* A run that goes on after so many points waits without giving way. */
#define POINTS_MOST 200000

enum party_state { IDLE, READY, YIELDED, LOCKED, ASLEEP, JOINING };

struct party {
	enum party_state state;
	/* What it waits for. */
	const void *object;
	uint64_t deadline;
	sem_t baton;
	bool alone;
	pthread_t thread;
	unsigned me;
	void *(*fn)(void *arg);
	void *arg;
	void *result;
};

static struct {
	const struct schedule *schedule;
	struct party *parties;
	sem_t main;
	bool running;
	bool stuck;
	bool refuse;
	/* The signal is still to come. */
	bool signal;
	uint64_t clock;
	uint64_t random;
	unsigned preemptions;
	unsigned preemptions_most;
	unsigned points;
	/* Decisions: how many there are, how many are repeated, what and out of how many. */
	unsigned decisions;
	unsigned repeated;
	uint8_t chosen[DECISIONS_MOST];
	uint8_t ways[DECISIONS_MOST];
} s;

static __thread struct party *self;

uint64_t clock_ns(void)
{
	return s.clock;
}

static void wait_for_baton(struct party *party)
{
	while (sem_wait(&party->baton) && errno == EINTR)
		;
}

/* Time passes until the first sleeper's end. */
static void pass_time(void)
{
	struct party *first = NULL;

	for (unsigned i = 0; i < PARTIES; i++) {
		struct party *p = &s.parties[i];

		if (p->state == ASLEEP && p->deadline && (!first || p->deadline < first->deadline))
			first = p;
	}
	if (first) {
		first->state = READY;
		s.clock = first->deadline;
	}
}

/* Which can go on; the running one first. */
static unsigned able(struct party **list)
{
	unsigned n = 0;

	if (self && self->state == READY)
		list[n++] = self;
	for (unsigned i = 0; i < PARTIES; i++)
		if (&s.parties[i] != self && s.parties[i].state == READY)
			list[n++] = &s.parties[i];
	return n;
}

/* When there is none: sleepers whose time comes, and who gave way to others. */
static void revive(void)
{
	pass_time();
	for (unsigned i = 0; i < PARTIES; i++)
		if (s.parties[i].state == YIELDED)
			s.parties[i].state = READY;
}

static unsigned draw(unsigned ways, bool forced)
{
	if (!forced && test_below(&s.random, 12))
		return 0;
	return (unsigned)test_below(&s.random, ways);
}

/* Decides between so many ways, and remembers. */
static unsigned decide(unsigned ways, bool forced)
{
	unsigned way = 0;

	if (s.decisions == DECISIONS_MOST) {
		s.stuck = true;
		return 0;
	}
	if (!forced && s.preemptions == s.preemptions_most)
		ways = 1;
	if (s.schedule->seed)
		way = ways > 1 ? draw(ways, forced) : 0;
	else if (s.decisions < s.repeated)
		way = s.chosen[s.decisions];
	/* The same choices must lead to the same place, or what was not tried counts as tried. */
	if (way >= ways ||
	    (!s.schedule->seed && s.decisions < s.repeated && ways != s.ways[s.decisions])) {
		fprintf(stderr, "a run cannot be repeated: decision %u\n", s.decisions);
		abort();
	}
	s.chosen[s.decisions] = (uint8_t)way;
	s.ways[s.decisions++] = (uint8_t)ways;
	if (!forced && way)
		s.preemptions++;
	return way;
}

/* The next to run; NULL if the run is over or stuck. */
static struct party *next_party(void)
{
	bool forced = !self || self->state != READY;
	struct party *list[PARTIES];
	unsigned n = able(list), way;

	if (!n) {
		revive();
		n = able(list);
	}
	if (!n || s.stuck)
		return NULL;
	way = n > 1 ? decide(n, forced) : 0;
	return s.stuck ? NULL : list[way];
}

/* Goes on, or hands the baton over. An ended party passes `over`. */
static void switch_over(bool over)
{
	struct party *me = self, *next = next_party();

	if (next == me)
		return;
	if (!next) {
		for (unsigned i = 0; i < PARTIES; i++)
			s.stuck |= s.parties[i].state != IDLE;
		sem_post(&s.main);
	} else {
		sem_post(&next->baton);
	}
	if (!over)
		wait_for_baton(me);
}

void schedule_point(void)
{
	if (!self || !s.running || self->alone)
		return;
	if (++s.points > POINTS_MOST)
		s.stuck = true;
	for (unsigned i = 0; i < PARTIES; i++)
		if (s.parties[i].state == YIELDED && &s.parties[i] != self)
			s.parties[i].state = READY;
	switch_over(false);
	if (s.signal && self == &s.parties[0] && decide(2, false)) {
		s.signal = false;
		s.schedule->handler();
	}
}

void schedule_alone(bool alone)
{
	self->alone = alone;
}

int schedule_yield(void)
{
	if (!self)
		return sched_yield();
	/* Counts as a decision, so that waiting for ever ends. */
	if (s.decisions == DECISIONS_MOST) {
		s.stuck = true;
	} else {
		s.chosen[s.decisions] = 0;
		s.ways[s.decisions++] = 1;
	}
	self->state = YIELDED;
	switch_over(false);
	self->state = READY;
	return 0;
}

static void block(enum party_state state, const void *object, uint64_t deadline)
{
	self->object = object;
	self->deadline = deadline;
	self->state = state;
	switch_over(false);
}

static void unblock(enum party_state state, const void *object)
{
	for (unsigned i = 0; i < PARTIES; i++)
		if (s.parties[i].state == state && s.parties[i].object == object)
			s.parties[i].state = READY;
}

int schedule_lock(pthread_mutex_t *lock)
{
	if (!self)
		return pthread_mutex_lock(lock);
	schedule_point();
	while (pthread_mutex_trylock(lock))
		block(LOCKED, lock, 0);
	return 0;
}

int schedule_trylock(pthread_mutex_t *lock)
{
	schedule_point();
	return pthread_mutex_trylock(lock);
}

int schedule_unlock(pthread_mutex_t *lock)
{
	int err = pthread_mutex_unlock(lock);

	if (self) {
		unblock(LOCKED, lock);
		schedule_point();
	}
	return err;
}

void futex_wait(uint32_t *word, uint32_t value, uint64_t deadline_ns)
{
	schedule_point();
	if (__atomic_load_n(word, __ATOMIC_RELAXED) == value && self)
		block(ASLEEP, word, deadline_ns);
}

void futex_wake(uint32_t *word)
{
	if (!self)
		return;
	schedule_point();
	unblock(ASLEEP, word);
}

/*
 * Threads.
 */
static void *party_main(void *arg)
{
	struct party *me = arg;

	for (;;) {
		wait_for_baton(me);
		if (!me->fn)
			return NULL;
		self = me;
		me->result = me->fn(me->arg);
		me->state = IDLE;
		unblock(JOINING, me);
		switch_over(true);
		self = NULL;
	}
}

static void *run_case(void *arg)
{
	s.schedule->run((unsigned)(uintptr_t)arg);
	return NULL;
}

static void parties_make(void)
{
	s.parties = calloc(PARTIES, sizeof(*s.parties));
	sem_init(&s.main, 0, 0);
	for (unsigned i = 0; i < PARTIES; i++) {
		s.parties[i].me = i;
		sem_init(&s.parties[i].baton, 0, 0);
		if (pthread_create(&s.parties[i].thread, NULL, party_main, &s.parties[i]))
			abort();
	}
}

/* Those of a run that got stuck wait for ever; they are left alone. */
static void parties_end(void)
{
	for (unsigned i = 0; !s.stuck && i < PARTIES; i++) {
		s.parties[i].fn = NULL;
		sem_post(&s.parties[i].baton);
		pthread_join(s.parties[i].thread, NULL);
		sem_destroy(&s.parties[i].baton);
	}
	if (!s.stuck)
		free(s.parties);
	s.parties = NULL;
}

void schedule_refuse_threads(bool refuse)
{
	s.refuse = refuse;
}

int schedule_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	struct party *party = s.parties ? &s.parties[SCHEDULE_THREADS] : NULL;

	if (!self)
		return pthread_create(thread, attr, fn, arg);
	if (s.refuse || party->state != IDLE)
		return EAGAIN;
	party->fn = fn;
	party->arg = arg;
	party->state = READY;
	*thread = party->thread;
	schedule_point();
	return 0;
}

int schedule_join(pthread_t thread, void **result)
{
	struct party *party = &s.parties[SCHEDULE_THREADS];

	if (!self)
		return pthread_join(thread, result);
	while (party->state != IDLE)
		block(JOINING, party, 0);
	if (result)
		*result = party->result;
	return 0;
}

/* One run with the decisions as they are; NULL or what went wrong. */
static const char *run_once(void)
{
	const struct schedule *schedule = s.schedule;
	struct party *first;

	schedule->begin();
	s.decisions = s.preemptions = s.points = 0;
	s.clock = 1000000;
	s.stuck = false;
	s.signal = schedule->handler != NULL;
	for (unsigned i = 0; i < schedule->threads; i++) {
		s.parties[i].fn = run_case;
		s.parties[i].arg = (void *)(uintptr_t)i;
		s.parties[i].state = READY;
	}
	s.running = true;
	first = next_party();
	sem_post(&first->baton);
	while (sem_wait(&s.main) && errno == EINTR)
		;
	s.running = false;
	return s.stuck ? "stuck" : schedule->end();
}

/* On to the next decisions; false if there are no others. */
static bool backtrack(void)
{
	unsigned n = s.decisions;

	while (n && s.chosen[n - 1] + 1u >= s.ways[n - 1])
		n--;
	if (!n)
		return false;
	s.chosen[n - 1]++;
	s.repeated = n;
	return true;
}

/* Runs of the case with this many preemptions at most. */
static struct schedule_result run_some(unsigned preemptions, unsigned runs)
{
	struct schedule_result result = {0};

	s.preemptions_most = preemptions;
	s.repeated = 0;
	do {
		result.error = run_once();
		result.runs++;
		if (result.error)
			break;
		result.complete = !s.schedule->seed && !backtrack();
	} while (!result.complete && result.runs < runs);
	return result;
}

/* Hand-overs are cheap on one CPU. */
static cpu_set_t stay_here(void)
{
	cpu_set_t before, one;

	sched_getaffinity(0, sizeof(before), &before);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	return before;
}

static cpu_set_t begin_case(const struct schedule *schedule)
{
	const cpu_set_t before = stay_here();

	s.schedule = schedule;
	s.random = schedule->seed;
	parties_make();
	return before;
}

static void end_case(cpu_set_t before)
{
	parties_end();
	sched_setaffinity(0, sizeof(before), &before);
}

struct schedule_result schedule_run(const struct schedule *schedule)
{
	const cpu_set_t before = begin_case(schedule);
	const struct schedule_result result = run_some(schedule->preemptions, schedule->runs);

	end_case(before);
	return result;
}

struct schedule_result schedule_deepen(const struct schedule *schedule, int whole, const char *name)
{
	/* The same threads for all, and a run before: what they do only once cannot be repeated. */
	const cpu_set_t before = begin_case(schedule);
	struct schedule_result result = run_some(0, 1);
	unsigned left = schedule->runs, done = 0;

	ck_assert_msg(!result.error, "%s: %s", name, result.error);
	for (unsigned i = 0; i <= schedule->preemptions; i++) {
		const bool all = (int)i <= whole && !test_slow();

		if (!all && !left)
			break;

		result = run_some(i, all ? WHOLE_MOST
					 : (left - 1) / (schedule->preemptions + 1 - i) + 1);
		printf("# %s, %u preemptions: %u runs%s\n", name, i, result.runs,
		       result.complete ? ", all" : "");
		ck_assert_msg(!result.error, "%s, %u preemptions: %s, run %u", name, i,
			      result.error, result.runs);
		ck_assert_msg(result.complete || !all, "%s, %u preemptions: %u runs are not all",
			      name, i, result.runs);
		result.complete = result.complete && i == schedule->preemptions;
		done += result.runs;
		left -= result.runs < left ? result.runs : left;
	}
	end_case(before);
	result.runs = done;
	return result;
}
