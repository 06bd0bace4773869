/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* The competitors that are part of this program; the others are modules. */
#ifndef BENCH_PEERS_IN_H
#define BENCH_PEERS_IN_H

#include "ops.h"

struct sheaf_cache;

extern const struct bench_peer peer_sheaf, peer_sheaf_bulk, peer_sheaf_thread, peer_sheaf_prepared,
	peer_sheaf_locked;
extern const struct bench_peer peer_limit, peer_malloc, peer_ck_stack;
extern const struct bench_peer peer_call_rcu, peer_call_rcu_batch, peer_defer_rcu, peer_ck_epoch;
extern const struct bench_peer peer_lfht, peer_rbtree;
extern const struct bench_peer peer_ck_ring, peer_ck_spinlock, peer_mutex;

extern const struct tree_ops tree_sheaf, tree_sheaf_prepared, tree_sheaf_locked;
extern const struct pool_ops pool_barn, pool_ck_stack;

void own_cache_trips(struct sheaf_cache *cache, struct bench_trips *trips);

/* Version of whatever malloc this process has. */
void malloc_version(char *text, size_t bytes);

#endif
