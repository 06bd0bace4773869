/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A barn alone: two threads hand messages over in whole sheaves. One lock-free trip carries
 * 32 messages, and the empty sheaves come back the same way.
 */
#include <sheaf/barn.h>

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define CAPACITY 32
#define SHEAVES 4
#define MESSAGES 100000u

static struct sheaf_barn barn;

static void *consume(void *arg)
{
	unsigned long long *sum = arg;
	unsigned seen = 0;

	while (seen < MESSAGES) {
		struct sheaf *sheaf = sheaf_barn_take_full(&barn);
		unsigned *message;

		if (!sheaf) {
			sched_yield();
			continue;
		}
		while ((message = sheaf_pop(sheaf)) != NULL) {
			*sum += *message;
			seen++;
		}
		sheaf_barn_keep(&barn, sheaf);
	}
	return NULL;
}

static void drop(void *arg, struct sheaf *sheaf)
{
	(void)arg;
	free(sheaf);
}

int main(void)
{
	unsigned *messages = malloc(MESSAGES * sizeof(*messages));
	unsigned long long sum = 0;
	pthread_t consumer;
	unsigned i, sent = 0;

	sheaf_barn_init(&barn, 0, SHEAVES, SHEAVES);
	for (i = 0; i < SHEAVES; i++) {
		void *memory = malloc(sheaf_bytes(CAPACITY));

		if (!memory || sheaf_barn_give_empty(&barn, sheaf_init(memory, CAPACITY)))
			return 1;
	}
	if (!messages || pthread_create(&consumer, NULL, consume, &sum))
		return 1;
	while (sent < MESSAGES) {
		struct sheaf *sheaf = sheaf_barn_take_empty(&barn);

		if (!sheaf) {
			sched_yield();
			continue;
		}
		for (; sent < MESSAGES && !sheaf_full(sheaf); sent++) {
			messages[sent] = sent;
			sheaf_push(sheaf, &messages[sent]);
		}
		sheaf_barn_keep(&barn, sheaf);
	}
	pthread_join(consumer, NULL);
	printf("%u messages, sum %llu\n", sent, sum);
	sheaf_barn_drain(&barn, drop, NULL);
	free(messages);
	return sum == (unsigned long long)MESSAGES * (MESSAGES - 1) / 2 && !sheaf_barn_fini(&barn) ? 0 : 1;
}
