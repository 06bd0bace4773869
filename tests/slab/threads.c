/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that all operations of one slab backend may run at once. Workers take and give
 * objects of all nodes in bulk, mark each with their own number while it is theirs, and
 * pass some on to each other, so that objects come back from threads and for nodes
 * that did not ask for them; another thread trims, reads the counters and checks the
 * invariants meanwhile. Spare regions are few, so regions come and go all the time.
 * The race checkers run this, too. The last case forks out of the middle of it: every
 * child finds a backend that works. Not with sanitizers: a child may find a lock of their malloc
 * held for good, by a thread that is no more.
 */
#include <sheaf/slab.h>

#include "child.h"
#include "common.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 4
#define HELD 400
#define BOX 64
#define NODES 3

/* Where workers leave objects for each other. */
static struct {
	pthread_mutex_t mutex;
	size_t n;
	void *objects[BOX];
} box = {.mutex = PTHREAD_MUTEX_INITIALIZER};

struct worker {
	struct sheaf_slab *slab;
	uint64_t state;
	uint64_t number;
	unsigned rounds;
	unsigned *done;
	uint64_t wrong;
	uint64_t taken;
	size_t n;
	void *held[HELD];
};

static void mark(struct worker *w, void *const *objects, size_t n)
{
	for (size_t i = 0; i < n; i++)
		memcpy(objects[i], &w->number, sizeof(w->number));
}

static void look(struct worker *w, void *const *objects, size_t n)
{
	for (size_t i = 0; i < n; i++)
		w->wrong += memcmp(objects[i], &w->number, sizeof(w->number)) != 0;
}

/* Leave some objects in the box, take what was there. */
static void pass_on(struct worker *w)
{
	void *mine[BOX];
	size_t n = test_below(&w->state, BOX), came;

	if (n > w->n)
		n = w->n;
	w->n -= n;
	look(w, w->held + w->n, n);
	memcpy(mine, w->held + w->n, n * sizeof(mine[0]));
	pthread_mutex_lock(&box.mutex);
	came = box.n;
	memcpy(w->held + w->n, box.objects, came * sizeof(mine[0]));
	memcpy(box.objects, mine, n * sizeof(mine[0]));
	box.n = n;
	pthread_mutex_unlock(&box.mutex);
	mark(w, w->held + w->n, came);
	w->n += came;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct sheaf_backend b = sheaf_slab_backend(w->slab);

	while (w->rounds--) {
		uint64_t dice = test_below(&w->state, 8);
		size_t n = test_below(&w->state, 100);
		int node = (int)test_below(&w->state, NODES + 1) - 1;
		unsigned flags = test_below(&w->state, 4) ? 0 : SHEAF_NOWAIT;

		if (dice < 4 && w->n + n <= HELD - BOX) {
			size_t got = b.ops->alloc_bulk(b.ctx, node, flags, n, w->held + w->n);

			w->wrong += got > n || (got < n && !flags);
			mark(w, w->held + w->n, got);
			w->n += got;
			w->taken += got;
		} else if (dice == 4 && w->n <= HELD - BOX) {
			pass_on(w);
		} else {
			if (n > w->n)
				n = w->n;
			w->n -= n;
			look(w, w->held + w->n, n);
			b.ops->free_bulk(b.ctx, n, w->held + w->n);
		}
	}
	b.ops->free_bulk(b.ctx, w->n, w->held);
	pthread_mutex_lock(&box.mutex);
	++*w->done;
	pthread_mutex_unlock(&box.mutex);
	return NULL;
}

static bool all_done(const struct worker *w)
{
	bool done;

	pthread_mutex_lock(&box.mutex);
	done = *w->done == WORKERS;
	pthread_mutex_unlock(&box.mutex);
	return done;
}

/* Until all workers are done. */
static void *watch(void *arg)
{
	struct worker *w = arg;
	struct sheaf_slab_stats stats;

	while (!all_done(w)) {
		w->wrong += !sheaf_slab_check(w->slab);
		sheaf_slab_stats(w->slab, &stats);
		w->wrong += stats.objects > WORKERS * HELD + BOX;
		if (!test_below(&w->state, 3))
			sheaf_slab_trim(w->slab);
		if (w->rounds) {
			usleep(200);
			w->rounds--;
		}
	}
	return NULL;
}

static void *dispatch(void *arg)
{
	struct worker *w = arg;

	return w->number < WORKERS ? work(w) : watch(w);
}

static struct sheaf_slab *make(size_t size, uint32_t spare)
{
	struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = size,
		.nodes = NODES,
		.spare_regions = spare,
	};
	struct sheaf_slab *slab;

	ck_assert_int_eq(sheaf_slab_create(&slab, &attr), 0);
	return slab;
}

static void finish(struct sheaf_slab *slab)
{
	struct sheaf_backend b = sheaf_slab_backend(slab);

	b.ops->free_bulk(b.ctx, box.n, box.objects);
	box.n = 0;
	ck_assert(sheaf_slab_check(slab));
	ck_assert_int_eq(sheaf_slab_destroy(slab), 0);
}

static void fill(struct worker *workers, struct sheaf_slab *slab, unsigned *done)
{
	memset(workers, 0, (WORKERS + 1) * sizeof(*workers));
	for (unsigned i = 0; i < WORKERS + 1; i++) {
		workers[i].slab = slab;
		workers[i].state = test_seed() + i * 7919 + 1;
		workers[i].number = i;
		workers[i].rounds = test_rounds(20000);
		workers[i].done = done;
	}
}

START_TEST(all_at_once)
{
	static const size_t sizes[] = {8, 256, 3000, 65536};
	static struct worker workers[WORKERS + 1];

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct sheaf_slab *slab = make(sizes[s], s % 2 ? UINT32_MAX : 1);
		unsigned done = 0;

		fill(workers, slab, &done);
		test_threads(WORKERS + 1, dispatch, workers, sizeof(workers[0]));
		for (unsigned i = 0; i < WORKERS + 1; i++) {
			ck_assert_uint_eq(workers[i].wrong, 0);
			ck_assert(i == WORKERS || workers[i].taken > 0);
		}
		finish(slab);
	}
}
END_TEST

/* What a child tries, whose parent's other threads may have held any mutex. */
static int child(struct sheaf_slab *slab)
{
	struct sheaf_backend b = sheaf_slab_backend(slab);
	void *objects[100];
	struct sheaf_slab *own;
	struct sheaf_slab_attr attr = {.size = sizeof(attr), .object_size = 64};

	if (!sheaf_slab_check(slab))
		return 1;
	for (int node = -1; node < NODES; node++) {
		if (b.ops->alloc_bulk(b.ctx, node, 0, 100, objects) != 100)
			return 2;
		b.ops->free_bulk(b.ctx, 100, objects);
	}
	if (!sheaf_slab_check(slab) || sheaf_slab_create(&own, &attr))
		return 3;
	return sheaf_slab_destroy(own) ? 4 : 0;
}

static void *fork_often(void *arg)
{
	struct worker *w = arg;

	do {
		pid_t pid = fork();

		/* It ends well by a signal, so that no checker looks for what it lost. */
		if (!pid) {
			int ret = child(w->slab);

			if (!ret)
				kill(getpid(), SIGKILL);
			_exit(ret);
		}
		w->wrong += child_end(pid) != CHILD_SIGNAL + SIGKILL;
		w->taken++;
	} while (!all_done(w));
	return NULL;
}

static void *dispatch_fork(void *arg)
{
	struct worker *w = arg;

	return w->number < WORKERS ? work(w) : fork_often(w);
}

START_TEST(fork_in_between)
{
	static struct worker workers[WORKERS + 1];
	struct sheaf_slab *slab = make(256, UINT32_MAX);
	unsigned done = 0;

	fill(workers, slab, &done);
	test_threads(WORKERS + 1, dispatch_fork, workers, sizeof(workers[0]));
	for (unsigned i = 0; i < WORKERS + 1; i++) {
		ck_assert_uint_eq(workers[i].wrong, 0);
		ck_assert_uint_gt(workers[i].taken, 0);
	}
	finish(slab);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab-threads");
	TCase *tc = tcase_create("threads");

	tcase_add_test(tc, all_at_once);
	if (!test_asan() && !test_tsan())
		tcase_add_test(tc, fork_in_between);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
