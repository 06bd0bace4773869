/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Nothing is wrong here: every kind of atomic access after a header of the library, with values of all sorts. What is
 * handed over is made in the very argument of the access. Helgrind and DRD have to be silent, and
 * compilers too.
 */
#include <sheaf/edges.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define TURNS 2000

struct item {
	int number;
	struct item *next;
};

static struct item *plain;
static _Atomic(struct item *) typed;
static struct item *list;
static unsigned char byte;
static _Bool truth;
static void *nothing;
static struct item *swapped;
static struct item *failed;
static _Atomic(struct item *) also_failed;
static _Atomic int turns;
static unsigned long sum;
static unsigned counts[4];
static struct {
	unsigned part : 4;
} bits = {3};

static struct item *item(int number)
{
	struct item *made = malloc(sizeof(*made));

	if (!made)
		abort();
	*made = (struct item){.number = number, .next = __atomic_load_n(&list, __ATOMIC_RELAXED)};
	return made;
}

static void *look(void *arg)
{
	const struct item *found;
	struct item *other;

	while (atomic_load_explicit(&turns, memory_order_relaxed) < TURNS) {
		found = __atomic_load_n(&plain, __ATOMIC_ACQUIRE);
		sum += found ? (unsigned long)found->number : 0;
		found = atomic_load_explicit(&typed, memory_order_acquire);
		sum += found ? (unsigned long)found->number : 0;
		found = __atomic_load_n(&swapped, __ATOMIC_ACQUIRE);
		sum += found ? (unsigned long)found->number : 0;
		/* What is there is seen by an exchange that fails. */
		other = NULL;
		if (!__atomic_compare_exchange_n(&failed, &other, NULL, 0, __ATOMIC_RELEASE,
						 __ATOMIC_ACQUIRE))
			sum += (unsigned long)other->number;
		other = NULL;
		if (!atomic_compare_exchange_strong_explicit(
			    &also_failed, &other, NULL, memory_order_release, memory_order_acquire))
			sum += (unsigned long)other->number;
		for (found = __atomic_load_n(&list, __ATOMIC_ACQUIRE); found; found = found->next)
			sum += (unsigned long)found->number % 2;
	}
	return arg;
}

/* Items are in all places at once, and stay: nobody says when a reader is done. */
int main(void)
{
	struct item *made;
	pthread_t reader;

	if (pthread_create(&reader, NULL, look, NULL))
		return 1;
	for (int i = 0; i < TURNS; i++) {
		__atomic_store_n(&plain, item(i), __ATOMIC_RELEASE);
		atomic_store_explicit(&typed, item(i), memory_order_release);
		(void)atomic_exchange_explicit(&typed, item(i), memory_order_acq_rel);
		(void)__atomic_exchange_n(&plain, item(i), __ATOMIC_ACQ_REL);
		made = __atomic_load_n(&swapped, __ATOMIC_RELAXED);
		(void)__atomic_compare_exchange_n(&swapped, &made, item(i), 0, __ATOMIC_RELEASE,
						  __ATOMIC_RELAXED);
		__atomic_store_n(&failed, item(i), __ATOMIC_RELEASE);
		atomic_store_explicit(&also_failed, item(i), memory_order_release);
		if (i % 200 == 0) {
			made = item(i);
			while (!__atomic_compare_exchange_n(&list, &made->next, made, 0,
							    __ATOMIC_RELEASE, __ATOMIC_RELAXED))
				;
		}
		__atomic_store_n(&nothing, NULL, __ATOMIC_RELEASE);
		__atomic_store_n(&truth, 1, __ATOMIC_RELEASE);
		__atomic_store_n(&byte,
				 __atomic_fetch_add(&byte, __atomic_load_n(&byte, __ATOMIC_RELAXED),
						    __ATOMIC_RELAXED),
				 __ATOMIC_RELEASE);
		(void)__atomic_sub_fetch(&byte, 1, __ATOMIC_RELAXED);
		(void)__atomic_fetch_add(counts, bits.part, __ATOMIC_RELAXED);
		(void)__atomic_load_n(counts, __ATOMIC_RELAXED);
		(void)__atomic_or_fetch(&byte, 0x10u, __ATOMIC_RELAXED);
		atomic_fetch_add(&turns, 1);
	}
	pthread_join(reader, NULL);
	printf("%d turns, sum %lu\n", turns, sum);
	return 0;
}
