/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that signal handlers may come in anywhere: handlers allocate, free and retire, also from
 * a sheaf that was lent to them and over pointers that readers follow, while the threads that
 * they interrupt do the same with the normal calls on the same cache, take slots over, wait at
 * barriers, end and are made anew. No object is in two hands, none is lost, none comes
 * back before its grace period, no reader sees reuse, errno stays, and nobody waits for ever.
 * A barrier does not miss what a handler retired. And once more with a handler after every
 * single instruction of one thread, its first call and its end included.
 */
#define _GNU_SOURCE
#include <urcu/urcu-memb.h>

#include "arena.h"
#include "base/atomic.h"
#include "cache_state.h"
#include "common.h"
#include "lazy.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define HAND 10
#define PLACES 3
#define THREADS_MOST 3
#define LENT 3

/* Owners of objects: a place, a thread, the handlers of a thread. */
enum { PLACE = ARENA_USER, THREADS, HANDLERS = THREADS + THREADS_MOST };

static const struct variant {
	const char *name;
	uint32_t capacity;
	uint32_t limit;
	unsigned threads;
	unsigned nodes;
	/* A real source; else one that only moves on when somebody waits. */
	bool urcu;
	/* Signals come from another thread as fast as it can; else from a timer of the thread. */
	bool sender;
	/* Threads end after so many rounds and are made anew; 0: they do not. */
	unsigned rounds;
} variants[] = {
	{"liburcu", 4, 3, 2, 1, true, false, 0},
	{"liburcu, threads come and go", 2, 3, 3, 1, true, false, 200},
	{"stepped", 2, UINT32_MAX, 3, 2, false, false, 0},
	{"stepped, another thread sends", 3, 2, 2, 1, false, true, 0},
};

#define VARIANTS (sizeof(variants) / sizeof(variants[0]))

struct object {
	uint64_t contents;
	void *self;
};

struct hand {
	uint32_t me;
	unsigned n;
	unsigned errors;
	uint64_t state;
	struct object *objects[HAND];
};

struct worker {
	struct hand own;
	/* Of the signal handler on this thread, as all the rest. */
	struct hand handlers;
	struct sheaf *lent;
	timer_t timer;
	bool timed;
	unsigned rounds;
	/* What the handler does. */
	void (*act)(struct worker *w);
};

static const struct variant *variant;
static struct arena arena;
static struct sheaf_cache *cache;
static struct sheaf_gp *gp;
static struct sheaf_gp_urcu urcu;
static struct worker workers[THREADS_MOST];
/* Whom a thread sends signals to; 0: nobody. */
static uint32_t tids[THREADS_MOST];
static struct object *places[PLACES];
/* Completed was below this when the object was retired; by number. */
static uint64_t not_before[ARENA_OBJECTS];
static uint64_t handled, handled_most;
static bool stop;

static __thread struct worker *self;

static struct lazy lazy;

/*
 * Hands. Contents are plain: ThreadSanitizer sees if the last owner's writes are not before.
 */
static bool hand_full(const struct hand *h)
{
	return h->n == HAND;
}

static void hand_add(struct hand *h, void *object)
{
	struct object *o = object;
	uint64_t *bound;

	if (!o)
		return;
	bound = &not_before[arena_index(&arena, o)];
	h->errors += !arena_own(&arena, o, h->me);
	h->errors += *bound && !sheaf_gp_elapsed(gp, *bound);
	*bound = 0;
	o->contents = h->me;
	o->self = o;
	h->objects[h->n++] = o;
}

static struct object *hand_remove(struct hand *h)
{
	unsigned i = (unsigned)test_below(&h->state, h->n);
	struct object *o = h->objects[i];

	h->objects[i] = h->objects[--h->n];
	h->errors += o->contents != h->me || o->self != o;
	h->errors += !arena_disown(&arena, o, h->me);
	return o;
}

static struct object *to_retire(struct object *o)
{
	not_before[arena_index(&arena, o)] = load_acquire(&gp->completed) + 1;
	return o;
}

/* Publishes one of the hand's; what was there is to be retired, NULL for none. */
static struct object *replace(struct hand *h)
{
	struct object *o = hand_remove(h);

	h->errors += !arena_own(&arena, o, PLACE);
	o->contents = test_random(&h->state);
	o = __atomic_exchange_n(&places[test_below(&h->state, PLACES)], o, __ATOMIC_ACQ_REL);
	if (!o)
		return NULL;
	h->errors += !arena_disown(&arena, o, PLACE);
	return to_retire(o);
}

/*
 * The handler.
 */
static void act_any(struct worker *w)
{
	struct hand *h = &w->handlers;
	uint64_t what = test_below(&h->state, 100);

	if (what < 15 && w->lent && !hand_full(h))
		hand_add(h, sheaf_cache_alloc_from(cache, w->lent));
	else if (what < 50 && !hand_full(h))
		hand_add(h, sheaf_cache_alloc_nowait(cache));
	else if (!h->n)
		return;
	else if (what < 70)
		sheaf_cache_free_nowait(cache, hand_remove(h));
	else if (what < 85)
		sheaf_cache_free_rcu_nowait(cache, to_retire(hand_remove(h)));
	else
		sheaf_cache_free_rcu_nowait(cache, replace(h));
}

/* Half a microsecond from now, or up to 65 more, short times more often. */
static void arm(struct worker *w)
{
	uint64_t range = UINT64_C(256) << test_below(&w->handlers.state, 9);
	const struct itimerspec next = {
		.it_value.tv_nsec = (long)(500 + test_below(&w->handlers.state, range)),
	};

	w->handlers.errors += timer_settime(w->timer, 0, &next, NULL) != 0;
}

static void handle(struct worker *w)
{
	int saved = errno;

	errno = EXDEV;
	for (uint64_t n = 1 + test_below(&w->handlers.state, 3); n; n--)
		w->act(w);
	w->handlers.errors += errno != EXDEV;
	fetch_add_relaxed(&handled, 1);
	errno = saved;
}

static void on_signal(int which)
{
	struct worker *w = self;
	int saved = errno;

	(void)which;
	if (!w)
		return;
	handle(w);
	if (w->timed)
		arm(w);
	errno = saved;
}

/* Who hangs is ended. */
static void have_patience(void)
{
	/* Check would end the whole process group. */
	signal(SIGALRM, SIG_DFL);
	alarm(test_full() ? 3000 : 100);
}

static void signals_begin(void (*handler)(int), int which)
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};

	sigemptyset(&action.sa_mask);
	ck_assert_int_eq(sigaction(which, &action, NULL), 0);
	have_patience();
	handled = 0;
	stop = false;
}

static void storm_on_me(struct worker *w, bool timer)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};

	self = w;
	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	if (timer) {
		w->own.errors += timer_create(CLOCK_MONOTONIC, &event, &w->timer) != 0;
		w->timed = true;
		arm(w);
	}
	store_release(&tids[w - workers], (uint32_t)event.sigev_notify_thread_id);
}

/* Of a thread that has ended: its handlers' things in other hands. */
static unsigned worker_end(struct worker *w)
{
	unsigned errors;

	store_release(&tids[w - workers], 0);
	if (w->timed)
		timer_delete(w->timer);
	while (w->own.n)
		sheaf_cache_free(cache, hand_remove(&w->own));
	while (w->handlers.n)
		sheaf_cache_free(cache, hand_remove(&w->handlers));
	sheaf_cache_return(cache, w->lent);
	errors = w->own.errors + w->handlers.errors;
	*w = (struct worker){.own.me = 0};
	return errors;
}

static void worker_begin(unsigned i, uint64_t seed, void (*act)(struct worker *w))
{
	workers[i] = (struct worker){
		.own = {.me = THREADS + i, .state = seed * 2 + 1},
		.handlers = {.me = HANDLERS + i, .state = seed * 2 + 2},
		.act = act,
	};
}

/*
 * What is interrupted.
 */
static void do_alloc(struct worker *w)
{
	if (!hand_full(&w->own))
		hand_add(&w->own, sheaf_cache_alloc(cache, 0));
}

/* The calls of handlers are interrupted by handlers, too. */
static void do_alloc_nowait(struct worker *w)
{
	for (unsigned i = HAND; i && !hand_full(&w->own); i--)
		hand_add(&w->own, i % 2 ? sheaf_cache_alloc_nowait(cache)
					: sheaf_cache_alloc(cache, SHEAF_NOWAIT));
}

static void do_free_nowait(struct worker *w)
{
	while (w->own.n)
		sheaf_cache_free_nowait(cache, hand_remove(&w->own));
}

static void do_retire_nowait(struct worker *w)
{
	while (w->own.n)
		sheaf_cache_free_rcu_nowait(cache, to_retire(hand_remove(&w->own)));
}

static void do_free(struct worker *w)
{
	if (w->own.n)
		sheaf_cache_free(cache, hand_remove(&w->own));
}

static void do_retire(struct worker *w)
{
	if (w->own.n)
		sheaf_cache_free_rcu(cache, to_retire(hand_remove(&w->own)));
}

static void do_replace(struct worker *w)
{
	if (w->own.n)
		sheaf_cache_free_rcu(cache, replace(&w->own));
}

static void do_bulk(struct worker *w)
{
	size_t n = test_below(&w->own.state, HAND - w->own.n + 1), i;
	void *objects[HAND];

	n = sheaf_cache_alloc_bulk(cache, 0, n, objects);
	for (i = 0; i < n; i++)
		hand_add(&w->own, objects[i]);
	for (i = 0; w->own.n > HAND / 2; i++)
		objects[i] = hand_remove(&w->own);
	sheaf_cache_free_bulk(cache, i, objects);
}

static void do_borrow(struct worker *w)
{
	uint32_t n = (uint32_t)test_below(&w->own.state, 6);
	struct sheaf *sheaf = sheaf_cache_prefill(cache, n, n % 2 ? 0 : SHEAF_NOWAIT);

	if (!sheaf)
		return;
	while (n-- && !hand_full(&w->own))
		hand_add(&w->own, sheaf_cache_alloc_from(cache, sheaf));
	sheaf_cache_refill(cache, &sheaf, 3, 0);
	sheaf_cache_return(cache, sheaf);
}

/* The handlers' sheaf is nobody's for a moment. */
static void do_lend(struct worker *w)
{
	struct sheaf *sheaf = w->lent;

	store_relaxed(&w->lent, NULL);
	compiler_barrier();
	sheaf_cache_return(cache, sheaf);
	sheaf = sheaf_cache_prefill(cache, LENT, 0);
	compiler_barrier();
	store_relaxed(&w->lent, sheaf);
}

static void do_read(struct worker *w)
{
	struct object *o;
	uint64_t contents;

	sheaf_gp_read_lock(gp);
	o = load_acquire(&places[test_below(&w->own.state, PLACES)]);
	if (o && variant && variant->urcu) {
		contents = o->contents;
		for (uint64_t i = test_below(&w->own.state, 100); i; i--)
			compiler_barrier();
		w->own.errors += o->contents != contents || o->self != o;
	}
	/* Retiring is fine here, too. */
	if (w->own.n > HAND / 2)
		do_retire(w);
	sheaf_gp_read_unlock(gp);
}

static void do_flush(struct worker *w)
{
	(void)w;
	sheaf_cache_flush(cache);
}

static void do_shrink(struct worker *w)
{
	(void)w;
	sheaf_cache_shrink(cache);
}

static void do_stats(struct worker *w)
{
	w->own.errors += cache_stats(cache).abandoned != 0;
}

static void do_barrier(struct worker *w)
{
	w->own.errors += sheaf_cache_barrier(cache) != 0;
}

static const struct op {
	void (*fn)(struct worker *w);
	unsigned weight;
} ops[] = {
	{do_alloc, 300},  {do_free, 150},         {do_free_nowait, 30}, {do_alloc_nowait, 50},
	{do_retire, 100}, {do_retire_nowait, 15}, {do_replace, 60},     {do_bulk, 60},
	{do_borrow, 40},  {do_lend, 60},          {do_read, 100},       {do_flush, 6},
	{do_shrink, 3},   {do_stats, 6},          {do_barrier, 3},
};

#define OPS (sizeof(ops) / sizeof(ops[0]))

static void any_op(struct worker *w)
{
	unsigned at = 0, i;

	for (i = 0; i < OPS; i++)
		at += ops[i].weight;
	at = (unsigned)test_below(&w->own.state, at);
	for (i = 0; at >= ops[i].weight; i++)
		at -= ops[i].weight;
	ops[i].fn(w);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	if (variant->urcu)
		rcu_register_thread();
	storm_on_me(w, !variant->sender);
	for (unsigned i = 0; load_relaxed(&handled) < handled_most && (!w->rounds || i < w->rounds);
	     i++)
		any_op(w);
	if (variant->urcu)
		rcu_unregister_thread();
	/* The storm goes on until the thread is gone. */
	return NULL;
}

static void *send(void *arg)
{
	const struct timespec moment = {0, 1000};
	uint64_t state = test_seed();

	while (!load_acquire(&stop)) {
		uint32_t tid = load_acquire(&tids[test_below(&state, variant->threads)]);
		uint64_t was = load_relaxed(&handled);

		if (tid)
			syscall(SYS_tgkill, getpid(), tid, SIGRTMIN);
		for (uint64_t i = test_below(&state, 3000); i; i--)
			compiler_barrier();
		/* The thread does not run: let it, rather than to send once more. */
		if (load_relaxed(&handled) == was)
			nanosleep(&moment, NULL);
	}
	return arg;
}

/* Everything is where it should be, and comes back. */
static void all_is_there(unsigned errors)
{
	struct sheaf_cache_stats s;

	for (unsigned i = 0; i < PLACES; i++) {
		if (places[i] && arena_disown(&arena, places[i], PLACE))
			sheaf_cache_free(cache, places[i]);
		places[i] = NULL;
	}
	ck_assert_uint_eq(errors, 0);
	ck_assert_uint_eq(arena.errors, 0);
	ck_assert_int_eq(sheaf_cache_barrier(cache), 0);
	s = cache_stats_at_rest(cache);
	ck_assert_uint_eq(s.held_lent + s.abandoned + s.spilled, 0);
	ck_assert_uint_eq(s.held_slots + s.held_barns + s.in_flight, arena_out(&arena));
	arena_cache_end(&arena, cache);
	have_patience();
}

/* A thread takes itself for one of any node, and changes its mind. */
static int wandering_node(void *arg)
{
	static __thread unsigned asked;

	(void)arg;
	return (int)(++asked / 16);
}

static uint64_t storm_size(unsigned quick)
{
	if (test_slow())
		quick /= 4;
	return test_more(1) * quick;
}

START_TEST(handlers_come_in_anywhere)
{
	const struct sheaf_gp_driver_attr spacing = {.size = sizeof(spacing), .spacing_us = 20};
	uint64_t seed = test_seed(), generation = 0;
	unsigned errors = 0;
	pthread_t sender;

	variant = &variants[_i];
	memset(not_before, 0, sizeof(not_before));
	lazy_begin(&lazy);
	gp = &lazy.gp;
	if (variant->urcu) {
		ck_assert_int_eq(sheaf_gp_urcu_init(&urcu, &rcu_flavor, &spacing), 0);
		gp = &urcu.gp;
	}
	arena_init(&arena, sizeof(struct object));
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = variant->capacity,
					    .barn_full = variant->limit,
					    .barn_empty = variant->limit,
					    .nodes = variant->nodes,
					    .current_node = wandering_node,
					    .gp = gp,
				    });
	signals_begin(on_signal, SIGRTMIN);
	handled_most = storm_size(7000);
	if (variant->sender)
		ck_assert_int_eq(pthread_create(&sender, NULL, send, NULL), 0);
	while (handled < handled_most) {
		for (unsigned i = 0; i < variant->threads; i++) {
			worker_begin(i, seed + generation * 16 + i, act_any);
			workers[i].rounds = variant->rounds;
		}
		generation++;
		test_threads(variant->threads, work, workers, sizeof(workers[0]));
		for (unsigned i = 0; i < variant->threads; i++)
			errors += worker_end(&workers[i]);
	}
	store_release(&stop, true);
	if (variant->sender)
		pthread_join(sender, NULL);
	printf("# %s: %llu signals, %llu generations\n", variant->name, (unsigned long long)handled,
	       (unsigned long long)generation);
	all_is_there(errors);
	if (variant->urcu)
		sheaf_gp_urcu_fini(&urcu);
}
END_TEST

/*
 * What was retired before a barrier, by a thread or by its handler, is free after it.
 */
#define STOCK 600

static struct stock {
	void *objects[STOCK];
	uint32_t next;
	uint32_t retired[STOCK];
} stocks[THREADS_MOST];

static void retire_next(struct worker *w, void (*retire)(struct sheaf_cache *, void *))
{
	struct stock *stock = &stocks[w - workers];
	uint32_t i = fetch_add_relaxed(&stock->next, 1);

	if (i >= STOCK)
		return;
	retire(cache, stock->objects[i]);
	store_release(&stock->retired[i], 1);
}

static void act_retire(struct worker *w)
{
	retire_next(w, sheaf_cache_free_rcu_nowait);
}

static void *retire_stock(void *arg)
{
	struct worker *w = arg;

	storm_on_me(w, true);
	while (load_relaxed(&stocks[w - workers].next) < STOCK) {
		retire_next(w, sheaf_cache_free_rcu);
		if (!test_below(&w->own.state, 64))
			sheaf_cache_flush(cache);
		for (uint64_t i = test_below(&w->own.state, 20000); i; i--)
			compiler_barrier();
	}
	return NULL;
}

/* Barrier, then shrink; nobody allocates. How many of those retired before are not back? */
static unsigned barrier_and_look(unsigned threads)
{
	static uint32_t before[THREADS_MOST][STOCK];
	unsigned wrong = 0;

	for (unsigned t = 0; t < threads; t++)
		for (unsigned i = 0; i < STOCK; i++)
			before[t][i] = load_acquire(&stocks[t].retired[i]);
	/* Empties for handlers to put in place of full ones. */
	for (unsigned i = 0; i < 4; i++)
		sheaf_barn_keep(&cache->node[i % cache->nodes].barn, sheaf_new(2));
	wrong += sheaf_cache_barrier(cache) != 0;
	sheaf_cache_shrink(cache);
	for (unsigned t = 0; t < threads; t++)
		for (unsigned i = 0; i < STOCK; i++)
			wrong += before[t][i] &&
				 load_relaxed(
					 &arena.owner[arena_index(&arena, stocks[t].objects[i])]) !=
					 ARENA_BACKEND;
	return wrong;
}

START_TEST(barrier_misses_nothing)
{
	uint64_t seed = test_seed();
	unsigned errors = 0;

	signals_begin(on_signal, SIGRTMIN);
	for (unsigned round = test_rounds(20); round; round--) {
		pthread_t threads[2];

		lazy_begin(&lazy);
		gp = &lazy.gp;
		arena_init(&arena, sizeof(struct object));
		cache = arena_cache(&arena, (struct sheaf_cache_attr){
						    .capacity = 2 + round % 2,
						    .nodes = 1 + round % 3,
						    .current_node = wandering_node,
						    .gp = gp,
					    });
		for (unsigned t = 0; t < 2; t++) {
			memset(&stocks[t], 0, sizeof(stocks[t]));
			sheaf_cache_alloc_bulk(cache, 0, STOCK, stocks[t].objects);
			worker_begin(t, seed + round * 2 + t, act_retire);
		}
		for (unsigned t = 0; t < 2; t++)
			pthread_create(&threads[t], NULL, retire_stock, &workers[t]);
		while (load_relaxed(&stocks[0].next) < STOCK ||
		       load_relaxed(&stocks[1].next) < STOCK)
			errors += barrier_and_look(2);
		for (unsigned t = 0; t < 2; t++) {
			pthread_join(threads[t], NULL);
			errors += worker_end(&workers[t]);
		}
		errors += barrier_and_look(2);
		all_is_there(errors);
	}
}
END_TEST

/*
 * A handler after every instruction: the processor's trap flag, set and cleared in what the
 * handler returns to. A restartable sequence never comes to its end then, so slots per CPU
 * are gone round.
 */
#ifdef __x86_64__
#include <ucontext.h>

#define TRAP_FLAG 0x100

static bool stepping;
/* So many steps of one call are enough: loops have no news after that. */
static unsigned steps_left;
static pthread_key_t last_key;

static void on_trap(int which, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	(void)which;
	(void)info;
	if (!load_relaxed(&stepping) || !steps_left) {
		*flags &= ~TRAP_FLAG;
		return;
	}
	*flags |= TRAP_FLAG;
	steps_left--;
	handle(self);
}

static void steps_begin(void)
{
	steps_left = test_more(2500);
	store_relaxed(&stepping, true);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGTRAP);
}

static void steps_end(void)
{
	store_relaxed(&stepping, false);
	/* At the latest here. */
	syscall(SYS_gettid);
}

static void last_key_end(void *arg)
{
	(void)arg;
	steps_end();
}

/* No handler may find a slot that is free for others. */
static void act_any_but_orphans(struct worker *w)
{
	struct slot *slot = slot_find(cache);

	w->handlers.errors += slot != &slot_none && (slot->cache != cache || slot->orphan);
	act_any(w);
}

/* The first call, which makes a slot, one of each, and the end of the thread. */
static void *step_through(void *arg)
{
	struct worker *w = arg;

	self = w;
	steps_begin();
	do_alloc(w);
	steps_end();
	for (unsigned i = 0; i < OPS; i++) {
		/* Something to work on; all of it for what follows a free. */
		while (ops[i].fn != do_alloc_nowait && w->own.n < HAND - 2)
			do_alloc(w);
		steps_begin();
		ops[i].fn(w);
		steps_end();
	}
	pthread_setspecific(last_key, w);
	steps_begin();
	return NULL;
}

/* Meanwhile another thread takes slots over again and again. */
static void *take_over(void *arg)
{
	unsigned *errors = arg;

	while (!load_acquire(&stop)) {
		*errors += cache_stats(cache).abandoned != 0;
		nanosleep(&(struct timespec){0, 20000}, NULL);
	}
	return NULL;
}

START_TEST(a_handler_after_every_instruction)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	struct sheaf_cache_attr plain = {.size = sizeof(plain), .object_size = 64};
	struct sheaf_cache *others[9];
	uint64_t generation = 0, seed = test_seed();
	unsigned errors = 0, errors_there = 0;
	pthread_t thread;

	variant = NULL;
	/* So that the number of the cache is beyond the first table of a thread. */
	for (unsigned i = 0; i < 9; i++) {
		ck_assert_int_eq(sheaf_cache_create(&others[i], &plain), 0);
		sheaf_cache_free(others[i], sheaf_cache_alloc(others[i], 0));
	}
	/* After that of the library: called after it at the end of a thread. */
	ck_assert_int_eq(pthread_key_create(&last_key, last_key_end), 0);
	memset(not_before, 0, sizeof(not_before));
	lazy_begin(&lazy);
	gp = &lazy.gp;
	arena_init(&arena, sizeof(struct object));
	cache = arena_cache(&arena, (struct sheaf_cache_attr){
					    .capacity = 2,
					    .barn_full = 2,
					    .barn_empty = 2,
					    .nodes = 2,
					    .current_node = wandering_node,
					    .gp = gp,
				    });
	signals_begin(on_signal, SIGRTMIN);
	ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
	for (handled_most = storm_size(30000); handled < handled_most; generation++) {
		stop = generation % 2;
		pthread_create(&thread, NULL, take_over, &errors_there);
		worker_begin(0, seed + generation, act_any_but_orphans);
		test_threads(1, step_through, workers, sizeof(workers[0]));
		errors += worker_end(&workers[0]);
		store_release(&stop, true);
		pthread_join(thread, NULL);
	}
	errors += errors_there;
	printf("# %llu steps, %llu threads\n", (unsigned long long)handled,
	       (unsigned long long)generation);
	all_is_there(errors);
	for (unsigned i = 0; i < 9; i++)
		sheaf_cache_destroy(others[i], NULL);
	pthread_key_delete(last_key);
}
END_TEST

/*
 * A handler that retires is held up after each of its instructions in turn, and meanwhile
 * another thread is at a barrier. The sheaf that the handler moves was retired before that.
 */
static struct {
	unsigned at;
	unsigned steps;
	uint32_t go;
	uint32_t over;
	unsigned wrong;
	struct object *objects[3];
} held;

static void act_hold_up(struct worker *w)
{
	(void)w;
	if (++held.steps != held.at)
		return;
	store_release(&held.go, 1);
	/* The barrier may well wait for us, so not for ever. */
	for (unsigned i = 0; i < 60 && !load_acquire(&held.over); i++)
		test_pause();
}

static void *barrier_when_told(void *arg)
{
	while (!load_acquire(&held.go))
		test_pause();
	held.wrong += sheaf_cache_barrier(cache) != 0;
	sheaf_cache_shrink(cache);
	for (unsigned i = 0; i < 2; i++)
		held.wrong += load_relaxed(&arena.owner[arena_index(&arena, held.objects[i])]) !=
			      ARENA_BACKEND;
	store_release(&held.over, 1);
	return arg;
}

static unsigned retire_held_up(unsigned at)
{
	pthread_t thread;

	lazy_begin(&lazy);
	gp = &lazy.gp;
	arena_init(&arena, sizeof(struct object));
	cache = arena_cache(&arena, (struct sheaf_cache_attr){.capacity = 2, .nodes = 1, .gp = gp});
	memset(&held, 0, sizeof(held));
	if (cache->cpus.n) {
		/* Nothing is moved where no sequence comes to its end. */
		arena_cache_end(&arena, cache);
		return 0;
	}
	held.at = at;
	sheaf_cache_alloc_bulk(cache, 0, 3, (void **)held.objects);
	sheaf_cache_shrink(cache);
	sheaf_cache_free_rcu(cache, held.objects[0]);
	sheaf_cache_free_rcu(cache, held.objects[1]);
	sheaf_barn_keep(&cache->node[0].barn, sheaf_new(2));
	worker_begin(0, 1 + at, act_hold_up);
	self = &workers[0];
	pthread_create(&thread, NULL, barrier_when_told, NULL);
	steps_begin();
	sheaf_cache_free_rcu_nowait(cache, held.objects[2]);
	steps_end();
	store_release(&held.go, 1);
	pthread_join(thread, NULL);
	all_is_there(held.wrong + worker_end(&workers[0]));
	return held.steps;
}

START_TEST(a_barrier_at_every_instruction)
{
	struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
	uint64_t state = test_seed();
	unsigned at = 1;

	variant = NULL;
	signals_begin(on_signal, SIGRTMIN);
	ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
	while (retire_held_up(at) >= at)
		at += 1 + (unsigned)test_below(&state, test_full() ? 1 : 8);
	printf("# held up at up to %u\n", at);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("cache");
	TCase *tc = tcase_create("signals");

	tcase_set_timeout(tc, test_full() ? 3600 : 120);
	tcase_add_loop_test(tc, handlers_come_in_anywhere, 0, VARIANTS);
	tcase_add_test(tc, barrier_misses_nothing);
#ifdef TRAP_FLAG
	if (!test_slow()) {
		tcase_add_test(tc, a_handler_after_every_instruction);
		tcase_add_test(tc, a_barrier_at_every_instruction);
	}
#endif
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
