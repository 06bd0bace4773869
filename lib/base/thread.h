/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Threads of the library, which are not for the program's signals; and those of the program, which are not cancelled
 * inside of it. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <stddef.h>

/*
 * A stack that no thread had. In a child of fork(2), pthread_create(3) gives out those of threads that are not
 * there any more, zeroed, with the registrations that liburcu keeps there in a list.
 */
struct thread_stack {
	void *base;
	size_t bytes;
};

/*
 * Makes a thread that has all signals blocked. In a child on `stack`, which is mapped if it is not there yet, and
 * stays the caller's, for the next thread or thread_stack_end() after the join. 0 or -errno.
 */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg, struct thread_stack *stack);
void thread_stack_end(struct thread_stack *stack);

/*
 * No function of the library is a cancellation point: who ended in the middle would leave locks taken,
 * and objects in nobody's hands. So what open(2), write(2), pthread_join(3) and the like need goes
 * between cancel_off() and cancel_on(), which is given what cancel_off() said. Calls nest.
 */
static inline int cancel_off(void)
{
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return state;
}

static inline void cancel_on(int state)
{
	pthread_setcancelstate(state, NULL);
}

static inline void thread_join(pthread_t thread)
{
	int state = cancel_off();

	pthread_join(thread, NULL);
	cancel_on(state);
}

#endif
