/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * liburcu's RCU list with nodes from a cache: readers walk a list of accounts while the writer
 * moves money between them. What is unlinked is retired, where other programs have an
 * rcu_head in each node and call_rcu().
 */
#include <sheaf/cache.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#include <sheaf/rcu.h> /* for race checkers; before the list */

#include <urcu/rculist.h>

#define READERS 2
#define ACCOUNTS 8

struct account {
	struct cds_list_head node;
	int number;
	int twice; /* 2 * number, as long as the memory is ours */
	long money;
};

struct reader {
	pthread_t thread;
	unsigned long walks;
	unsigned long errors;
};

static CDS_LIST_HEAD(accounts);
static struct sheaf_cache *cache;
static pthread_barrier_t begin;
static int stop;

static void *read_accounts(void *arg)
{
	struct reader *me = arg;
	struct account *account;

	rcu_register_thread();
	pthread_barrier_wait(&begin);
	do {
		unsigned seen = 0;

		rcu_read_lock();
		cds_list_for_each_entry_rcu(account, &accounts, node) {
			me->errors += account->twice != 2 * account->number;
			seen |= 1u << account->number;
		}
		rcu_read_unlock();
		/* Each at least once: it is linked in at the end before it is unlinked. */
		me->errors += seen != (1u << ACCOUNTS) - 1;
		me->walks++;
	} while (!CMM_LOAD_SHARED(stop));
	rcu_unregister_thread();
	return NULL;
}

static struct account *make_account(int number, long money)
{
	struct account *account = sheaf_cache_alloc(cache, 0);

	if (account)
		*account = (struct account){.number = number, .twice = 2 * number, .money = money};
	return account;
}

/* An account as it was with other money: readers see the old one or the new one. */
static int change(struct account *old, long by)
{
	struct account *next = make_account(old->number, old->money + by);

	if (!next)
		return -1;
	cds_list_replace_rcu(&old->node, &next->node);
	sheaf_cache_free_rcu(cache, old); /* readers may still be at it */
	return 0;
}

static int write_once(int round)
{
	struct account *first = cds_list_first_entry(&accounts, struct account, node);
	struct account *second = cds_list_entry(first->node.next, struct account, node);
	struct account *again;

	if (change(second, round % 100))
		return -1;
	if (change(first, -(round % 100)))
		return -1;
	/* The first becomes the last. It cannot be linked in anew while readers are at it. */
	first = cds_list_first_entry(&accounts, struct account, node);
	again = make_account(first->number, first->money);
	if (!again)
		return -1;
	cds_list_add_tail_rcu(&again->node, &accounts);
	cds_list_del_rcu(&first->node);
	sheaf_cache_free_rcu(cache, first);
	return 0;
}

int main(int argc, char **argv)
{
	const int rounds = argc > 1 ? atoi(argv[1]) : 100000;
	struct sheaf_gp_urcu source;
	struct sheaf_cache_attr attr = {
		.size = sizeof(attr), .object_size = sizeof(struct account), .gp = &source.gp};
	struct reader readers[READERS] = {0};
	struct account *account, *next;
	unsigned long walks = 0, errors = 0;
	long money = 0;
	int i;

	if (sheaf_gp_urcu_init(&source, &rcu_flavor, NULL) || sheaf_cache_create(&cache, &attr))
		return 1;
	for (i = 0; i < ACCOUNTS; i++) {
		account = make_account(i, 1000);
		if (!account)
			return 1;
		cds_list_add_tail_rcu(&account->node, &accounts);
	}
	pthread_barrier_init(&begin, NULL, READERS + 1);
	for (i = 0; i < READERS; i++)
		if (pthread_create(&readers[i].thread, NULL, read_accounts, &readers[i]))
			return 1;
	pthread_barrier_wait(&begin);
	for (i = 0; i < rounds && !errors; i++)
		errors += write_once(i) != 0;
	CMM_STORE_SHARED(stop, 1);
	for (i = 0; i < READERS; i++) {
		pthread_join(readers[i].thread, NULL);
		walks += readers[i].walks;
		errors += readers[i].errors;
	}
	/* No readers any more: the nodes can be freed at once. */
	cds_list_for_each_entry_safe(account, next, &accounts, node) {
		money += account->money;
		sheaf_cache_free(cache, account);
	}
	printf("%d rounds, %lu walks, money %ld, %lu errors\n", rounds, walks, money, errors);
	if (sheaf_cache_destroy(cache, NULL)) /* says so if a node was lost */
		return 1;
	sheaf_gp_urcu_fini(&source);
	pthread_barrier_destroy(&begin);
	return errors || money != ACCOUNTS * 1000 ? 1 : 0;
}
