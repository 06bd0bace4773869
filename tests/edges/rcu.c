/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Nothing is wrong here: items that are handed over by liburcu's atomics, read in sections, and used again by
 * callbacks of call_rcu(). Race checkers have to be silent.
 */
#include <urcu.h>

#include <sheaf/rcu.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define TURNS 500

struct item {
	long number;
	struct rcu_head head;
};

static struct item *shared;
/* What callbacks have had; two words that are handed over by one. */
static long done;
static long words[2];
static long have;
static unsigned long bits;

static void again(struct rcu_head *head)
{
	struct item *item = caa_container_of(head, struct item, head);

	sheaf_rcu_called(head);
	item->number = -1;
	free(item);
	uatomic_inc(&done);
}

static void *look(void *arg)
{
	const struct item *item;
	long sum = 0;

	rcu_register_thread();
	while (uatomic_read(&done) < TURNS - 1) {
		rcu_read_lock();
		item = rcu_dereference(shared);
		sum += item ? item->number : 0;
		rcu_read_unlock();
		/* Whoever has it at 1 owns the words. */
		if (uatomic_cmpxchg(&have, 1, 2) == 1) {
			words[1] += words[0];
			uatomic_xchg(&have, 0);
		}
		uatomic_or(&bits, 1);
	}
	rcu_unregister_thread();
	*(long *)arg = sum;
	return NULL;
}

static struct item *item_new(long number)
{
	struct item *item = malloc(sizeof(*item));

	if (!item)
		abort();
	item->number = number;
	return item;
}

int main(void)
{
	struct item *old;
	pthread_t reader;
	long sum = 0;

	if (pthread_create(&reader, NULL, look, &sum))
		return 1;
	for (long i = 0; i < TURNS; i++) {
		old = uatomic_xchg(&shared, item_new(i));
		if (old)
			call_rcu(&old->head, again);
		if (uatomic_cmpxchg(&have, 0, 3) == 0) {
			words[0]++;
			uatomic_xchg(&have, 1);
		}
		uatomic_and(&bits, ~1ul);
	}
	pthread_join(reader, NULL);
	free(shared);
	printf("%ld done, sum %ld, words %ld %ld\n", uatomic_read(&done), sum, words[0], words[1]);
	return uatomic_read(&done) == TURNS - 1 ? 0 : 1;
}
