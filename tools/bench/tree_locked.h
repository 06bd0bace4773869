/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The lock around a tree that has none: a pthread rwlock, on a line of its own. */
#ifndef BENCH_TREE_LOCKED_H
#define BENCH_TREE_LOCKED_H

#include <pthread.h>

struct tree_lock {
	pthread_rwlock_t lock __attribute__((aligned(64)));
} __attribute__((aligned(64)));

static inline void tree_read_lock(struct tree_lock *lock)
{
	pthread_rwlock_rdlock(&lock->lock);
}

static inline void tree_write_lock(struct tree_lock *lock)
{
	pthread_rwlock_wrlock(&lock->lock);
}

static inline void tree_unlock(struct tree_lock *lock)
{
	pthread_rwlock_unlock(&lock->lock);
}

#endif
