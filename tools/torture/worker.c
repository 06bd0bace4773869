/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Workers: each runs operations that its own stream of random numbers chooses, and between two of
 * them does what it was asked to: fork, end. What it holds stays with the worker when its thread
 * ends, and the next thread goes on with it.
 *
 * The disturber cancels threads at any moment. That is let in (deferred) during operations, where
 * no function of the library may act on it, and acted on by the worker behind each.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

__thread struct worker *self;

uint64_t worker_owner(const struct worker *w)
{
	return STATE_OWNERS + w->number + (torture.child ? OWNER_CHILD : 0);
}

void worker_note(struct worker *w, const char *doing, const char *with)
{
	store_relaxed(&w->since_ms, load_relaxed(&torture.watched_ms));
	store_relaxed(&w->with, with);
	store_relaxed(&w->doing, doing);
}

/* In a signal handler, whatever the thread was doing. */
static void handler_give(struct worker *w, unsigned i, bool retire)
{
	struct victim *victim = &torture.victims[w->handler_cache[i]];
	struct stamp *object = w->handler_hand[i];

	w->handler_n--;
	w->handler_hand[i] = w->handler_hand[w->handler_n];
	w->handler_cache[i] = w->handler_cache[w->handler_n];
	if (retire) {
		object_retire(victim, object, worker_owner(w) | OWNER_HANDLER);
		sheaf_cache_free_rcu_nowait(victim->cache, object);
	} else {
		object_free(victim, object, worker_owner(w) | OWNER_HANDLER);
		sheaf_cache_free_nowait(victim->cache, object);
	}
}

static void handler(int number)
{
	struct worker *w = self;
	unsigned c, turns;
	int saved = errno;

	(void)number;
	if (!w || !load_relaxed(&w->handling))
		return;
	for (turns = random_below(&w->handler_random, 12); turns; turns--) {
		struct stamp *object;

		if (w->handler_n == HANDLER_HAND ||
		    (w->handler_n && random_below(&w->handler_random, 2))) {
			handler_give(w, random_below(&w->handler_random, w->handler_n),
				     random_below(&w->handler_random, 2));
			continue;
		}
		c = random_below(&w->handler_random, CACHES);
		object = sheaf_cache_alloc_nowait(torture.victims[c].cache);
		if (!object)
			continue;
		object_take(&torture.victims[c], object, worker_owner(w) | OWNER_HANDLER);
		w->handler_hand[w->handler_n] = object;
		w->handler_cache[w->handler_n++] = (unsigned char)c;
	}
	fetch_add_relaxed(&torture.counts.handlers, 1);
	happened(DISTURB_SIGNALS);
	errno = saved;
}

void workers_install_handler(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = handler;
	action.sa_flags = SA_RESTART;
	sigemptyset(&action.sa_mask);
	sigaction(SIGUSR1, &action, NULL);
}

static void do_fork(struct worker *w)
{
	int status = 0;
	pid_t pid, got;

	worker_note(w, "fork", "a child");
	source_offline();
	pid = fork();
	if (pid == 0) {
		source_online();
		child_run(w);
	}
	if (pid < 0) {
		/* The machine has no more processes; that is not the library's. Counted is what came. */
		if (errno != EAGAIN && errno != ENOMEM)
			fault("fork fails (%d)", errno);
		source_online();
		return;
	}
	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	source_online();
	if (got == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		fetch_add_relaxed(&torture.counts.children, 1);
		happened(DISTURB_FORK);
	} else if (WIFSIGNALED(status)) {
		fault("a child was ended by signal %d%s", WTERMSIG(status),
		      WTERMSIG(status) == SIGALRM ? ": no progress" : "");
	} else {
		fault("a child has found a fault (status %#x)", (unsigned)status);
	}
}

/* True if the thread is to end. */
static bool serve(struct worker *w)
{
	uint32_t asked = fetch_and_acquire(&w->asked, 0);

	if (asked & ASK_FORK)
		do_fork(w);
	return asked & ASK_EXIT;
}

static struct operation *choose(struct worker *w)
{
	struct operation *op = random_below(&w->random, 3) ? cache_operations : tree_operations;
	unsigned sum = 0, n, at;

	for (n = 0; op[n].name; n++)
		sum += op[n].weight;
	for (at = random_below(&w->random, sum); at >= op->weight; op++)
		at -= op->weight;
	return op;
}

static void leave(void *arg)
{
	struct worker *w = arg;

	store_relaxed(&w->handling, 0);
	compiler_barrier();
	if (w->inside)
		fault("thread %u was cancelled inside of the library: %s (%s)", w->number,
		      load_relaxed(&w->doing), load_relaxed(&w->with));
	worker_note(w, "end", "its thread");
	source_thread_end(w);
	/* release: partner disturber_join(), which goes on with what the worker holds */
	store_release(&w->left, 1);
}

/* To the end of the round, or until it is asked to end its thread. */
static void work(struct worker *w)
{
	while (!load_relaxed(&torture.stop)) {
		struct operation *op = choose(w);

		worker_note(w, op->name, "");
		w->refused = false;
		w->inside = true;
		pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, NULL);
		op->run(w);
		w->inside = false;
		pthread_testcancel();
		pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
		fetch_add_relaxed(&w->steps, 1);
		if (!w->refused)
			fetch_add_relaxed(&op->done, 1);
		source_quiescent();
		if (plant_now(PLANT_HANG)) {
			worker_note(w, "nothing", "as planted");
			source_offline();
			for (;;)
				pause();
		}
		if (serve(w)) {
			happened(DISTURB_EXIT);
			break;
		}
	}
}

static void *run(void *arg)
{
	struct worker *w = arg;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	self = w;
	source_thread_begin(w);
	pthread_cleanup_push(leave, w);
	store_relaxed(&w->handling, 1);
	work(w);
	pthread_cleanup_pop(1);
	return NULL;
}

bool worker_start(struct worker *w)
{
	store_relaxed(&w->left, 0);
	store_relaxed(&w->asked, 0);
	w->inside = false;
	worker_note(w, "begin", "its thread");
	if (pthread_create(&w->thread, NULL, run, w))
		return false;
	w->running = true;
	fetch_add_relaxed(&torture.counts.threads_made, 1);
	return true;
}
