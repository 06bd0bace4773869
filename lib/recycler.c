/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Retired sheaves on their way back.
 *
 *	givers --CAS--> incoming (newest first)
 *	                   |  exchange, reversed, by the taker inside
 *	                   v
 *	                queue head .. tail (oldest first) --ripe?--> taker
 *
 * Givers push on one word and touch nothing else that takers write. One taker at a time
 * is inside, holding `busy`; another one that finds it taken does not wait but comes back
 * with nothing, for which every caller has a next layer. Before that it looks at three
 * words (is anything there, is the oldest ripe), so that asking too early is cheap.
 *
 * Tickets in the queue may be out of order by the grace periods that began while their
 * givers raced; each sheaf is handed out by its own ticket, so an older one in front
 * only delays.
 *
 * Invariants, at rest:
 *  I1  sheaves == length of incoming + length of queue == given - taken
 *  I2  objects == sum of the sizes of those sheaves
 *  I3  (head == NULL) == (tail == NULL) == (waiting == 0); waiting is the length of queue
 *  I4  head != NULL implies oldest == head->ticket
 *
 * Guarantees:
 *  G1  A sheaf is handed out only when its ticket has elapsed; the ticket was taken
 *      after the sheaf was sealed, so after its objects were unlinked.
 *  G2  What the giver wrote is visible to the taker: incoming CAS (release) to exchange
 *      (acquire), then busy store (release) to exchange (acquire) from taker to taker.
 *      What readers did: the ticket (see <sheaf/gp.h>).
 *  G3  `newest` is raised before a sheaf is pushed and never lowered, so a barrier that
 *      waits for it waits for every give that happened before. It takes no ticket of its
 *      own: where all is ripe it returns at once.
 *  G4  give is lock-free; take never waits. It returns NULL although something is ripe only
 *      while another taker is inside, or behind an older sheaf whose later ticket has not
 *      elapsed yet.
 *
 * fork(), if the owner's handlers call what is in recycler_fork.h:
 *  G5  The child finds queue and incoming whole, and every sheaf in them was in them in the
 *      parent. The forking thread is the taker inside, so no other one was in the midst of a
 *      change; incoming changes by one CAS, after the sheaf's link is written.
 *  G6  I1 to I4 hold in the child, `given` and the counts of what is in flight being
 *      counted anew: a giver may have vanished after it had counted and before it had
 *      pushed, a taker after it had popped and before it had counted. What they had
 *      in their hands has vanished with them, and counts as never given or as taken.
 *  G7  `newest` may be the ticket of such a giver; a barrier of the child waits for it too.
 *      That ends: it is a ticket of the source, which elapses there like any other
 *      (<sheaf/gp.h>). It is not lowered, so G3 holds.
 *  G8  prepare is not a wait for a period nor for a lock: a taker inside makes some loads and
 *      stores. So any order with other handlers will do.
 */
#include <sheaf/recycler.h>

#include "base/atomic.h"
#include "base/attr.h"
#include "base/compiler.h"
#include "base/futex.h"
#include "base/probe.h"
#include "base/wait.h"
#include "recycler_fork.h"

#include <errno.h>

static int check_limits(uint64_t soft, uint64_t hard)
{
	return hard && soft > hard ? -EINVAL : 0;
}

int sheaf_recycler_init(struct sheaf_recycler *recycler, struct sheaf_gp *gp,
			const struct sheaf_recycler_attr *attr)
{
	struct sheaf_recycler_attr a = {.size = sizeof(a)};

	if (!gp || (attr && attr_copy(&a, sizeof(a), attr, attr->size, sizeof(a))) ||
	    check_limits(a.soft_limit, a.hard_limit))
		return -EINVAL;
	*recycler = (struct sheaf_recycler){
		.gp = gp,
		.newest = load_relaxed(&gp->completed),
		.soft_limit = a.soft_limit,
		.hard_limit = a.hard_limit,
		.ripe = a.ripe,
		.ripe_arg = a.ripe_arg,
	};
	return 0;
}

int sheaf_recycler_fini(struct sheaf_recycler *recycler)
{
	return load_acquire(&recycler->sheaves) ? -EBUSY : 0;
}

static uint32_t now_us(void)
{
	return (uint32_t)(clock_ns() / 1000);
}

/* Raises the newest ticket given; tickets may wrap. */
static void note_ticket(struct sheaf_recycler *recycler, uint64_t ticket)
{
	uint64_t newest = load_relaxed(&recycler->newest);

	while (!sheaf_gp_not_after(ticket, newest) &&
	       !cas_weak_relaxed(&recycler->newest, &newest, ticket))
		;
}

bool sheaf_recycler_give(struct sheaf_recycler *recycler, struct sheaf *sheaf)
{
	struct sheaf *head = load_relaxed(&recycler->incoming);
	uint64_t soft = load_relaxed(&recycler->soft_limit);
	uint64_t hard = load_relaxed(&recycler->hard_limit);
	uint64_t objects;

	fetch_add_relaxed(&recycler->sheaves, 1);
	fetch_add_relaxed(&recycler->given, 1);
	/* release: partner sheaf_recycler_stats() */
	objects = fetch_add_release(&recycler->objects, sheaf->size) + sheaf->size;
	raise_u64(&recycler->peak, objects);

	sheaf->stamp = now_us();
	sheaf->ticket = sheaf_gp_ticket(recycler->gp);
	PROBE(recycler_give, recycler, sheaf, sheaf->ticket, objects);
	note_ticket(recycler, sheaf->ticket);
	do {
		sheaf->link = head;
		/* release: G2, partner the exchange in splice_incoming() */
	} while (!cas_weak_release(&recycler->incoming, &head, sheaf));

	/* What is ripe already counts too, but no period helps it. */
	if (soft && objects > soft &&
	    !(load_relaxed(&recycler->waiting) &&
	      sheaf_gp_elapsed(recycler->gp, load_relaxed(&recycler->oldest))))
		sheaf_gp_hurry(recycler->gp);
	return hard && objects > hard;
}

/* Appends what has come in, oldest first. The caller is inside. */
static void splice_incoming(struct sheaf_recycler *recycler)
{
	/* acquire: G2, partner the CAS in give */
	struct sheaf *newest = exchange_acquire(&recycler->incoming, NULL);
	struct sheaf *sheaf = newest, *oldest = NULL;
	uint32_t n = 0;

	if (!newest)
		return;
	while (sheaf) {
		struct sheaf *older = sheaf->link;

		sheaf->link = oldest;
		oldest = sheaf;
		sheaf = older;
		n++;
	}
	if (recycler->tail)
		recycler->tail->link = oldest;
	else
		recycler->head = oldest;
	recycler->tail = newest;
	store_relaxed(&recycler->waiting, recycler->waiting + n);
	store_relaxed(&recycler->oldest, recycler->head->ticket);
}

/* Pops the head, which is there. The caller is inside. */
static struct sheaf *queue_pop(struct sheaf_recycler *recycler)
{
	struct sheaf *sheaf = recycler->head;

	recycler->head = sheaf->link;
	if (recycler->head)
		store_relaxed(&recycler->oldest, recycler->head->ticket);
	else
		recycler->tail = NULL;
	store_relaxed(&recycler->waiting, recycler->waiting - 1);
	store_relaxed(&recycler->taken, recycler->taken + 1);
	sheaf->link = NULL;
	return sheaf;
}

static void count_age(struct sheaf_recycler *recycler, const struct sheaf *sheaf)
{
	uint32_t age = now_us() - sheaf->stamp, units = age / 16;
	unsigned bucket = units ? 32 - (unsigned)__builtin_clz(units) : 0;

	PROBE(recycler_take, recycler, sheaf, sheaf->size, age);
	if (bucket >= SHEAF_RECYCLER_AGES)
		bucket = SHEAF_RECYCLER_AGES - 1;
	store_relaxed(&recycler->ages[bucket], recycler->ages[bucket] + 1);
}

/* The sheaf has left: it no longer counts as in flight. */
static void count_out(struct sheaf_recycler *recycler, const struct sheaf *sheaf)
{
	fetch_sub_relaxed(&recycler->objects, sheaf->size);
	/* release: partner load_acquire in fini */
	fetch_sub_release(&recycler->sheaves, 1);
}

bool sheaf_recycler_ripe(const struct sheaf_recycler *recycler)
{
	if (load_relaxed(&recycler->busy))
		return false;
	if (load_relaxed(&recycler->waiting))
		return sheaf_gp_elapsed(recycler->gp, load_relaxed(&recycler->oldest));
	return load_relaxed(&recycler->incoming) != NULL;
}

struct sheaf *sheaf_recycler_take(struct sheaf_recycler *recycler)
{
	struct sheaf *sheaf = NULL;

	/* acquire: G2, partner the store below */
	if (!sheaf_recycler_ripe(recycler) || exchange_acquire(&recycler->busy, 1))
		return NULL;
	if (!recycler->head)
		splice_incoming(recycler);
	if (recycler->head && sheaf_gp_elapsed(recycler->gp, recycler->head->ticket)) {
		sheaf = queue_pop(recycler);
		count_age(recycler, sheaf);
	}
	/* release: G2, partner the exchange above */
	store_release(&recycler->busy, 0);
	if (!sheaf)
		return NULL;
	count_out(recycler, sheaf);
	if (recycler->ripe)
		recycler->ripe(recycler->ripe_arg, sheaf);
	return sheaf;
}

uint64_t sheaf_recycler_objects(const struct sheaf_recycler *recycler)
{
	return load_relaxed(&recycler->objects);
}

int sheaf_recycler_barrier(struct sheaf_recycler *recycler)
{
	/* Every give that happened before has noted its ticket: the newest covers them all. */
	return sheaf_gp_wait(recycler->gp, load_relaxed(&recycler->newest));
}

int sheaf_recycler_set_limits(struct sheaf_recycler *recycler, uint64_t soft, uint64_t hard)
{
	int err = check_limits(soft, hard);

	if (err)
		return err;
	store_relaxed(&recycler->soft_limit, soft);
	store_relaxed(&recycler->hard_limit, hard);
	return 0;
}

struct sheaf *sheaf_recycler_drain(struct sheaf_recycler *recycler)
{
	struct sheaf *sheaf;

	if (!recycler->head)
		splice_incoming(recycler);
	if (!recycler->head)
		return NULL;
	sheaf = queue_pop(recycler);
	count_out(recycler, sheaf);
	return sheaf;
}

void recycler_fork_prepare(struct sheaf_recycler *recycler)
{
	unsigned turns = 0;

	/* acquire: G2, partner the store in take */
	while (exchange_acquire(&recycler->busy, 1))
		wait_a_little(&turns);
}

void recycler_fork_parent(struct sheaf_recycler *recycler)
{
	/* release: G2, partner the exchange in take */
	store_release(&recycler->busy, 0);
}

/* The queue is its taker's. What comes in meanwhile is put before what was there, and only a taker
 * takes it off. */
void recycler_visit(struct sheaf_recycler *recycler, recycler_visit_fn *fn, void *arg)
{
	const struct sheaf *sheaf;

	recycler_fork_prepare(recycler);
	for (sheaf = recycler->head; sheaf; sheaf = sheaf->link)
		fn(arg, sheaf);
	/* acquire: G2, partner the CAS in give */
	for (sheaf = load_acquire(&recycler->incoming); sheaf; sheaf = sheaf->link)
		fn(arg, sheaf);
	recycler_fork_parent(recycler);
}

void recycler_fork_child(struct sheaf_recycler *recycler)
{
	const struct sheaf *lists[] = {recycler->incoming, recycler->head}, *sheaf;
	uint64_t sheaves = 0, objects = 0;
	unsigned i;

	for (i = 0; i < 2; i++) {
		for (sheaf = lists[i]; sheaf; sheaf = sheaf->link) {
			sheaves++;
			objects += sheaf->size;
		}
	}
	store_relaxed(&recycler->sheaves, sheaves);
	store_relaxed(&recycler->objects, objects);
	store_relaxed(&recycler->given, recycler->taken + sheaves);
	store_relaxed(&recycler->busy, 0);
}

void sheaf_recycler_stats(const struct sheaf_recycler *recycler, struct sheaf_recycler_stats *stats)
{
	unsigned i;

	*stats = (struct sheaf_recycler_stats){
		.given = load_relaxed(&recycler->given),
		.taken = load_relaxed(&recycler->taken),
		.sheaves = load_relaxed(&recycler->sheaves),
		/* acquire: who finds an object here finds all that was done to it before. */
		.objects = load_acquire(&recycler->objects),
		.peak = load_relaxed(&recycler->peak),
	};
	for (i = 0; i < SHEAF_RECYCLER_AGES; i++)
		stats->ages[i] = load_relaxed(&recycler->ages[i]);
}

bool sheaf_recycler_check(const struct sheaf_recycler *recycler)
{
	const struct sheaf *sheaf, *last = NULL;
	uint64_t sheaves = 0, objects = 0;

	for (sheaf = recycler->head; sheaf; last = sheaf, sheaf = sheaf->link) {
		if (!sheaf_check(sheaf))
			return false;
		sheaves++;
		objects += sheaf->size;
	}
	if (last != recycler->tail || sheaves != recycler->waiting || recycler->busy)
		return false;
	if (recycler->head && recycler->oldest != recycler->head->ticket)
		return false;
	for (sheaf = recycler->incoming; sheaf; sheaf = sheaf->link) {
		if (!sheaf_check(sheaf))
			return false;
		sheaves++;
		objects += sheaf->size;
	}
	return sheaves == recycler->sheaves && sheaves == recycler->given - recycler->taken &&
	       objects == recycler->objects;
}
