/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "conform.h"

#include "base/atomic.h"
#include "common.h"

#include <sched.h>
#include <time.h>

#define READERS 2
#define CHECKERS 2

#define WRAP_MOST_MS 10000

struct party {
	const struct conform *conform;
	struct conform_result result;
	uint64_t state;
	uint64_t end_ms;
	/* By test_patience_ms(). */
	uint64_t limit_ms;
	uint64_t newest;
	/* The last that has elapsed. */
	uint64_t done;
	bool reader;
	/* Odd inside a section. */
	uint32_t flag __attribute__((aligned(64)));
};

static struct party parties[READERS + CHECKERS];
static unsigned checkers_left;

static void linger(uint64_t *state)
{
	const struct timespec time = {0, 100000};
	uint64_t what = test_below(state, 40);

	if (what == 0)
		nanosleep(&time, NULL);
	else if (what < 4)
		sched_yield();
}

static uint64_t take_ticket(struct party *p)
{
	uint64_t ticket = sheaf_gp_ticket(p->conform->gp);

	if (p->result.tickets++ && !sheaf_gp_not_after(p->newest, ticket))
		p->result.backwards++;
	p->newest = ticket;
	return ticket;
}

static void raise_flag(struct party *p)
{
	store_release(&p->flag, p->flag + 1);
}

static void read_once(struct party *p)
{
	const struct conform *c = p->conform;
	uint64_t ticket = 0;
	bool ask = !test_below(&p->state, 8);

	c->lock ? c->lock() : sheaf_gp_read_lock(c->gp);
	raise_flag(p);
	if (ask)
		ticket = take_ticket(p);
	if (!sheaf_gp_read_ongoing(c->gp))
		p->result.unaware++;
	linger(&p->state);
	if (ask && !test_below(&p->state, 4))
		sheaf_gp_hurry(c->gp);
	linger(&p->state);
	if (ask && sheaf_gp_elapsed(c->gp, ticket))
		p->result.early++;
	raise_flag(p);
	c->unlock ? c->unlock() : sheaf_gp_read_unlock(c->gp);
	p->result.sections++;
	if (c->quiescent)
		c->quiescent();
	/* Readers, too, wait when they are outside. */
	if (ask && c->waits && !test_below(&p->state, 8) && sheaf_gp_wait(c->gp, ticket))
		p->result.unwaited++;
}

static void read_on(struct party *p)
{
	if (p->conform->reader_begin)
		p->conform->reader_begin();
	do
		read_once(p);
	while (load_acquire(&checkers_left));
	if (p->conform->reader_end)
		p->conform->reader_end();
}

static void until_elapsed(struct party *p, uint64_t ticket)
{
	const struct conform *c = p->conform;

	if (c->waits && test_below(&p->state, 2)) {
		if (sheaf_gp_wait(c->gp, ticket) || !sheaf_gp_elapsed(c->gp, ticket))
			p->result.unwaited++;
		return;
	}
	while (!sheaf_gp_elapsed(c->gp, ticket)) {
		if (p->done && !sheaf_gp_elapsed(c->gp, p->done))
			p->result.unstable++;
		if (!test_below(&p->state, 16))
			sheaf_gp_hurry(c->gp);
		test_pause();
	}
}

static void check_once(struct party *p)
{
	uint32_t before[READERS];
	uint64_t ticket;

	for (unsigned i = 0; i < READERS; i++)
		before[i] = load_acquire(&parties[i].flag);
	ticket = take_ticket(p);
	linger(&p->state);
	until_elapsed(p, ticket);
	for (unsigned i = 0; i < READERS; i++)
		if (before[i] % 2 && load_acquire(&parties[i].flag) == before[i])
			p->result.early++;
	p->done = ticket;
}

static bool is_to_wrap(const struct sheaf_gp *gp)
{
	return load_acquire(&gp->completed) > UINT64_MAX / 2;
}

static void *party_main(void *arg)
{
	struct party *p = arg;

	if (p->reader) {
		read_on(p);
		return NULL;
	}
	do {
		check_once(p);
	} while (test_ms() < p->end_ms || (p->conform->wraps && is_to_wrap(p->conform->gp) &&
					   test_patience_ms() < p->limit_ms));
	fetch_sub_release(&checkers_left, 1);
	return NULL;
}

struct conform_result conform_run(const struct conform *conform, unsigned ms)
{
	struct conform_result sum = {0};
	uint64_t seed = test_seed();

	checkers_left = CHECKERS;
	for (unsigned i = 0; i < READERS + CHECKERS; i++)
		parties[i] = (struct party){
			.conform = conform,
			.state = seed + i,
			.end_ms = test_ms() + ms,
			.limit_ms = test_patience_ms() + ms + WRAP_MOST_MS,
			.reader = i < READERS,
		};
	test_threads(READERS + CHECKERS, party_main, parties, sizeof(parties[0]));
	for (unsigned i = 0; i < READERS + CHECKERS; i++) {
		const struct conform_result *r = &parties[i].result;

		sum.sections += r->sections;
		sum.tickets += r->tickets;
		sum.early += r->early;
		sum.backwards += r->backwards;
		sum.unstable += r->unstable;
		sum.unwaited += r->unwaited;
		sum.unaware += r->unaware;
	}
	return sum;
}

unsigned conform_errors(const struct conform_result *result)
{
	return result->early + result->backwards + result->unstable + result->unwaited;
}
