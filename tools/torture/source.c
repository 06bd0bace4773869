/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Grace-period sources, and how threads read with each.
 *
 * A manual source is stepped when nobody reads: readers share a lock that the stepper takes for
 * itself. In the child of a fork others may have vanished inside their sections, so there only
 * bp, which is told of forks, is waited for.
 */
#define _GNU_SOURCE
#include "torture.h"

#include <ck_epoch.h>
#include <errno.h>
#include <sheaf/gp_ck.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <urcu/flavor.h>

/* The flavours' own headers do not go together. */
extern const struct rcu_flavor_struct urcu_memb_flavor, urcu_mb_flavor, urcu_bp_flavor,
	urcu_qsbr_flavor;
void urcu_memb_call_rcu_before_fork(void);
void urcu_memb_call_rcu_after_fork_parent(void);
void urcu_memb_call_rcu_after_fork_child(void);
void urcu_bp_before_fork(void);
void urcu_bp_after_fork_parent(void);
void urcu_bp_after_fork_child(void);

static const struct kind {
	const char *name;
	const struct rcu_flavor_struct *flavor;
	bool by_itself; /* registers threads by itself, and is told of forks */
	bool call_rcu;  /* liburcu's thread moves it on */
	bool by_hand;
} kinds[] = {
	{.name = "memb", .flavor = &urcu_memb_flavor},
	{.name = "mb", .flavor = &urcu_mb_flavor},
	{.name = "qsbr", .flavor = &urcu_qsbr_flavor},
	{.name = "bp", .flavor = &urcu_bp_flavor, .by_itself = true},
	{.name = "ck"},
	{.name = "call_rcu", .flavor = &urcu_memb_flavor, .call_rcu = true},
	{.name = "manual", .by_hand = true},
};

static const struct kind *kind;
static union {
	struct sheaf_gp_urcu urcu;
	struct sheaf_gp_call_rcu call_rcu;
	struct sheaf_gp_ck ck;
	struct sheaf_gp_manual manual;
} source;
static ck_epoch_t epoch;
static pthread_rwlock_t manual_lock;

static const struct kind *find(const char *name)
{
	unsigned i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].name, name))
			return &kinds[i];
	return NULL;
}

bool source_known(const char *name)
{
	return find(name) != NULL;
}

static ck_epoch_record_t *record(void)
{
	return self ? self->record : NULL;
}

static void ck_lock(void)
{
	ck_epoch_begin(record(), NULL);
}

static void ck_unlock(void)
{
	ck_epoch_end(record(), NULL);
}

static bool ck_ongoing(void)
{
	return record() && record()->active;
}

static const struct sheaf_gp_ck_readers ck_readers = {ck_lock, ck_unlock, ck_ongoing};

static void before_fork(void)
{
	if (kind && kind->by_itself)
		urcu_bp_before_fork();
	if (kind && kind->call_rcu)
		urcu_memb_call_rcu_before_fork();
}

static void after_fork_parent(void)
{
	if (kind && kind->by_itself)
		urcu_bp_after_fork_parent();
	if (kind && kind->call_rcu)
		urcu_memb_call_rcu_after_fork_parent();
}

static void after_fork_child(void)
{
	if (kind && kind->by_itself)
		urcu_bp_after_fork_child();
	if (kind && kind->call_rcu)
		urcu_memb_call_rcu_after_fork_child();
}

/* A stepper that waits goes before readers that come later. */
static int manual_begin(void)
{
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&manual_lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	/* Tickets wrap while it runs. */
	sheaf_gp_manual_init(&source.manual, (uint64_t)-100);
	return 0;
}

int source_begin(void)
{
	static bool hooked;

	kind = find(torture.options.source);
	if (!hooked && pthread_atfork(before_fork, after_fork_parent, after_fork_child))
		return -ENOMEM;
	hooked = true;
	memset(&source, 0, sizeof(source));
	torture.gp = &source.urcu.gp;
	if (kind->call_rcu)
		return sheaf_gp_call_rcu_init(&source.call_rcu, kind->flavor);
	if (kind->flavor)
		return sheaf_gp_urcu_init(&source.urcu, kind->flavor, NULL);
	if (kind->by_hand)
		return manual_begin();
	ck_epoch_init(&epoch);
	return sheaf_gp_ck_init(&source.ck, &epoch, &ck_readers, NULL);
}

void source_end(void)
{
	unsigned i;

	if (kind->call_rcu)
		sheaf_gp_call_rcu_fini(&source.call_rcu);
	else if (kind->flavor)
		sheaf_gp_urcu_fini(&source.urcu);
	else if (kind->by_hand)
		pthread_rwlock_destroy(&manual_lock);
	else
		sheaf_gp_driver_fini(&source.ck.driver);
	for (i = 0; i < THREADS_MAX; i++) {
		free(torture.workers[i].record);
		torture.workers[i].record = NULL;
	}
}

/* A record stays with the worker, whatever thread it is run by. */
static void ck_begin(struct worker *w)
{
	if (w->record)
		return;
	if (posix_memalign(&w->record, 64, sizeof(ck_epoch_record_t)))
		fault("no memory for an epoch record");
	ck_epoch_register(&epoch, w->record, NULL);
}

void source_thread_begin(struct worker *w)
{
	w->reads = true;
	if (kind->flavor && !kind->by_itself)
		kind->flavor->register_thread();
	else if (!kind->flavor && !kind->by_hand)
		ck_begin(w);
}

void source_thread_end(struct worker *w)
{
	if (w->reads && kind->flavor && !kind->by_itself)
		kind->flavor->unregister_thread();
	w->reads = false;
}

void source_quiescent(void)
{
	if (kind->flavor)
		kind->flavor->read_quiescent_state();
}

void source_offline(void)
{
	if (kind->flavor && !kind->by_itself)
		kind->flavor->thread_offline();
}

void source_online(void)
{
	if (kind->flavor && !kind->by_itself)
		kind->flavor->thread_online();
}

void source_read_lock(void)
{
	if (kind->by_hand)
		pthread_rwlock_rdlock(&manual_lock);
	sheaf_gp_read_lock(torture.gp);
}

void source_read_unlock(void)
{
	sheaf_gp_read_unlock(torture.gp);
	if (kind->by_hand)
		pthread_rwlock_unlock(&manual_lock);
}

void source_tend(void)
{
	struct timespec until;

	if (!kind->by_hand)
		return;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec++;
	if (pthread_rwlock_timedwrlock(&manual_lock, &until))
		return;
	sheaf_gp_manual_step(&source.manual);
	pthread_rwlock_unlock(&manual_lock);
}

bool source_ends_in_child(void)
{
	return kind->by_itself || kind->by_hand;
}

bool source_by_hand(void)
{
	return kind->by_hand;
}

/* Readers that have vanished do not count. */
void source_child(void)
{
	if (kind->by_hand)
		pthread_rwlock_init(&manual_lock, NULL);
}
