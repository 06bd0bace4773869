/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * A table of live threads: which process each belongs to and which space it uses. A
 * thread may use no known space: after an execve whose map was not recorded because
 * the program made no memory call before it was killed.
 */
#include "plan.h"

#include <stdlib.h>

#define NO_SPACE UINT32_MAX

struct thread {
	int tid;
	int process;
	uint32_t space;
};

struct maker {
	struct plan *plan;
	struct trace *trace;
	struct thread *threads;
	size_t thread_count;
	size_t thread_room;
	size_t step_room;
	uint32_t *users; /* threads per space */
	size_t user_room;
};

static int add_step(struct maker *maker, enum plan_kind kind, uint32_t space, uint32_t from,
		    uint32_t event)
{
	struct plan *plan = maker->plan;

	if (plan->count == maker->step_room) {
		size_t room = maker->step_room ? 2 * maker->step_room : 256;
		void *larger = realloc(plan->steps, room * sizeof(*plan->steps));

		if (!larger)
			return trace_fail(maker->trace, 0, "out of memory");
		plan->steps = larger;
		maker->step_room = room;
	}
	plan->steps[plan->count++] = (struct plan_step){kind, space, from, event};
	plan->calls += kind == PLAN_CALL;
	plan->checks += kind == PLAN_CHECK;
	return 0;
}

/* A space number without users yet. */
static int new_space(struct maker *maker, uint32_t *space)
{
	if (maker->plan->spaces == maker->user_room) {
		size_t room = maker->user_room ? 2 * maker->user_room : 16;
		void *larger = realloc(maker->users, room * sizeof(*maker->users));

		if (!larger)
			return trace_fail(maker->trace, 0, "out of memory");
		maker->users = larger;
		maker->user_room = room;
	}
	*space = maker->plan->spaces++;
	maker->users[*space] = 0;
	return 0;
}

static struct thread *find_thread(struct maker *maker, int tid)
{
	for (size_t i = 0; i < maker->thread_count; i++)
		if (maker->threads[i].tid == tid)
			return &maker->threads[i];
	return NULL;
}

static int add_thread(struct maker *maker, int tid, int process, uint32_t space)
{
	if (maker->thread_count == maker->thread_room) {
		size_t room = maker->thread_room ? 2 * maker->thread_room : 16;
		void *larger = realloc(maker->threads, room * sizeof(*maker->threads));

		if (!larger)
			return trace_fail(maker->trace, 0, "out of memory");
		maker->threads = larger;
		maker->thread_room = room;
	}
	maker->threads[maker->thread_count++] = (struct thread){tid, process, space};
	if (space != NO_SPACE)
		maker->users[space]++;
	return 0;
}

/* One user less; the last one takes the space with it. */
static int leave_space(struct maker *maker, uint32_t space, uint32_t event)
{
	if (space == NO_SPACE || --maker->users[space])
		return 0;
	return add_step(maker, PLAN_DROP, space, NO_SPACE, event);
}

static int remove_thread(struct maker *maker, struct thread *thread, uint32_t event)
{
	uint32_t space = thread->space;

	*thread = maker->threads[--maker->thread_count];
	return leave_space(maker, space, event);
}

/* The program of a process is replaced: its other threads end, its map is new. */
static int plan_execve(struct maker *maker, uint32_t index)
{
	const struct trace_event *event = &maker->trace->events[index];
	struct thread *thread = find_thread(maker, event->tid);
	uint32_t space = NO_SPACE, former;

	if (!thread) {
		/* The first thread of a recording comes from nowhere. */
		if (add_thread(maker, event->tid, event->tid, NO_SPACE))
			return -1;
		thread = &maker->threads[maker->thread_count - 1];
	}
	for (size_t i = maker->thread_count; i-- > 0;) {
		struct thread *other = &maker->threads[i];

		if (other->process == thread->process && other->tid != event->tid &&
		    remove_thread(maker, other, index))
			return -1;
		thread = find_thread(maker, event->tid);
	}
	former = thread->space;
	if (event->map != TRACE_NO_MAP) {
		if (new_space(maker, &space) || add_step(maker, PLAN_START, space, NO_SPACE, index))
			return -1;
		maker->users[space] = 1;
	}
	thread->space = space;
	return leave_space(maker, former, index);
}

static int plan_fork(struct maker *maker, const struct thread *parent, uint32_t index)
{
	const struct trace_event *event = &maker->trace->events[index];
	int child = (int)event->result, process = event->flags & TRACE_THREAD ? parent->process : child;
	uint32_t space = parent->space;

	if (find_thread(maker, child))
		return trace_fail(maker->trace, event->line, "process %d exists already", child);
	if (!(event->flags & TRACE_SHARE) && space != NO_SPACE &&
	    (new_space(maker, &space) || add_step(maker, PLAN_FORK, space, parent->space, index)))
		return -1;
	return add_thread(maker, child, process, space);
}

static int plan_event(struct maker *maker, uint32_t index)
{
	struct trace *trace = maker->trace;
	const struct trace_event *event = &trace->events[index];
	struct thread *thread = find_thread(maker, event->tid);

	if (event->kind == TRACE_GONE)
		return thread ? remove_thread(maker, thread, index) : 0;
	if (!thread && (event->kind != TRACE_EXECVE || maker->plan->count))
		return trace_fail(trace, event->line, "process %d is unknown: no fork or clone made it",
				  event->tid);
	if (event->kind == TRACE_EXECVE)
		return plan_execve(maker, index);
	if (event->kind == TRACE_FORK)
		return plan_fork(maker, thread, index);
	if (thread->space == NO_SPACE)
		return trace_fail(trace, event->line, "process %d has no map: none follows its execve",
				  event->tid);
	return add_step(maker, event->kind == TRACE_CHECK ? PLAN_CHECK : PLAN_CALL, thread->space,
			NO_SPACE, index);
}

int plan_make(struct plan *plan, struct trace *trace)
{
	struct maker maker = {.plan = plan, .trace = trace};
	int result = 0;

	*plan = (struct plan){0};
	for (size_t i = 0; i < trace->event_count && !result; i++)
		result = plan_event(&maker, (uint32_t)i);
	/* A recording may end before its processes do. */
	while (!result && maker.thread_count)
		result = remove_thread(&maker, &maker.threads[maker.thread_count - 1], PLAN_NO_EVENT);
	free(maker.threads);
	free(maker.users);
	return result;
}

void plan_free(struct plan *plan)
{
	free(plan->steps);
	*plan = (struct plan){0};
}
