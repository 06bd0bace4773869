/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

#include "thread.h"

#include "base/atomic.h"
#include "base/fork.h"
#include "base/memory.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

static int bring(struct thread_stack *stack, pthread_attr_t *attr)
{
	if (!stack->base) {
		pthread_attr_getstacksize(attr, &stack->bytes);
		stack->base = memory_map((size_t)sysconf(_SC_PAGESIZE), stack->bytes);
	}
	return stack->base ? pthread_attr_setstack(attr, stack->base, stack->bytes) : EAGAIN;
}

int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg, struct thread_stack *stack)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int err;

	err = pthread_attr_init(&attr);
	if (err)
		return -err;
	if (fork_is_child)
		err = bring(stack, &attr);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!err)
		err = pthread_create(thread, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

void thread_stack_end(struct thread_stack *stack)
{
	void *base = stack->base;

	/* In this order: a child that is made here must not believe in it. */
	stack->base = NULL;
	compiler_barrier();
	if (base)
		memory_unmap(base, stack->bytes);
}
