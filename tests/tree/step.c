/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a reader at any instruction of a writer sees a write as a whole. The writer is a
 * child that is single-stepped through each of its writes; the tree and its nodes are in memory
 * that both share. After each instruction the parent loads every key, scans up and down and
 * copies all: all of it is how it was before the write, or all of it is how it is after,
 * and once it is after it stays so. The writes are random ones on nodes of three items: slots
 * written in place, leaves divided and merged, stores over many leaves, the last range erased.
 *
 * Skipped where a child cannot be traced, and in builds and under tools in which an
 * instruction is not what the compiler made.
 */
#include "oracle.h"
#include "tree_node.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_SKIP 77
#define KEYS 60
#define FILL 20
#define NODES 4096

/* What parent and child share. */
static struct shared {
	uint64_t first;
	uint64_t last;
	void *entry;
	/* Writes that the child has done. */
	unsigned done;
	bool leave;
	/* Of nodes: handed out so far. */
	unsigned nodes;
	struct sheaf_tree tree cacheline_aligned;
	unsigned char node[NODES][SHEAF_TREE_NODE_BYTES] cacheline_aligned;
} * shared;

static struct sheaf_tree *tree;
static struct sheaf_cache *cache;
static struct sheaf_gp_manual gp;

static void wrong(const char *what)
{
	fprintf(stderr, "tree-step: %s\n", what);
	if (tree)
		sheaf_tree_dump(tree, SHEAF_TREE_TEXT, stderr);
	exit(1);
}

/* The tree itself is what the library makes of this size; all else stays private. */
void *__real_memory_zalloc(size_t align, size_t bytes);
void *__wrap_memory_zalloc(size_t align, size_t bytes);
void __real_memory_free(void *mem);
void __wrap_memory_free(void *mem);

void *__wrap_memory_zalloc(size_t align, size_t bytes)
{
	return bytes == sizeof(struct sheaf_tree) && !tree ? &shared->tree
							   : __real_memory_zalloc(align, bytes);
}

void __wrap_memory_free(void *mem)
{
	if (mem != &shared->tree)
		__real_memory_free(mem);
}

static size_t node_alloc(void *ctx, int node, unsigned flags, size_t n, void **objects)
{
	size_t got;

	(void)ctx;
	(void)node;
	(void)flags;
	for (got = 0; got < n && shared->nodes < NODES; got++)
		objects[got] = shared->node[shared->nodes++];
	return got;
}

/* Never reused by this way: what is free stays in the cache. */
static void node_free(void *ctx, size_t n, void *const *objects)
{
	(void)ctx;
	(void)n;
	(void)objects;
}

static const struct sheaf_backend_ops node_backend = {
	.name = "step", .alloc_bulk = node_alloc, .free_bulk = node_free};

static void make_tree(unsigned flags)
{
	const struct sheaf_cache_attr nodes = {
		.size = sizeof(nodes),
		.object_size = SHEAF_TREE_NODE_BYTES,
		.object_align = 64,
		.capacity = 4,
		.nodes = 1,
		.slots = SHEAF_SLOTS_THREAD,
		.gp = &gp.gp,
		.backend = {.ops = &node_backend},
	};
	struct sheaf_tree_attr attr = {.size = sizeof(attr), .gp = &gp.gp, .flags = flags};

	sheaf_gp_manual_init(&gp, 0);
	if (sheaf_cache_create(&cache, &nodes))
		wrong("no cache");
	attr.nodes = cache;
	if (sheaf_tree_create(&tree, &attr) || tree != &shared->tree)
		wrong("no tree where it should be");
}

static void ripen(void)
{
	(void)sheaf_cache_barrier(cache);
	sheaf_gp_manual_step(&gp);
}

/* Stops before and after each write; nodes that were retired are used again. */
static void child_main(void)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(EXIT_SKIP);
	raise(SIGSTOP);
	while (!shared->leave) {
		if (sheaf_tree_store(tree, shared->first, shared->last, shared->entry))
			_exit(1);
		__atomic_fetch_add(&shared->done, 1, __ATOMIC_RELAXED);
		ripen();
		raise(SIGSTOP);
	}
	if (sheaf_tree_destroy(tree))
		_exit(1);
	ripen();
	if (sheaf_cache_destroy(cache, NULL))
		_exit(1);
	_exit(0);
}

/* False if the child has ended. */
static bool wait_stop(pid_t child, int signal)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			wrong("no child");
	if (!WIFSTOPPED(status))
		return false;
	if (WSTOPSIG(status) != signal)
		wrong("the child has stopped for another reason");
	return true;
}

/* Which of two states do readers see? 1 and 2, or 3 if they cannot be told apart. */
static unsigned all_loads(const struct oracle *before, const struct oracle *after)
{
	unsigned seen = 3;
	uint64_t key;

	for (key = 0; key < KEYS; key++) {
		const void *entry = sheaf_tree_load_rcu(tree, key);
		unsigned here = 0;

		here |= entry == oracle_load(before, key) ? 1 : 0;
		here |= entry == oracle_load(after, key) ? 2 : 0;
		seen &= here;
	}
	return seen;
}

static bool scan_is(const struct oracle *state, bool up)
{
	struct sheaf_tree_cursor cursor;
	size_t i;

	sheaf_tree_cursor_init(&cursor, tree);
	for (i = 0; i < state->n; i++) {
		const struct oracle_range *range = &state->range[up ? i : state->n - 1 - i];
		const void *entry =
			up ? sheaf_tree_next_rcu(&cursor) : sheaf_tree_prev_rcu(&cursor);

		if (entry != range->entry || cursor.first != range->first ||
		    cursor.last != range->last)
			return false;
	}
	return !(up ? sheaf_tree_next_rcu(&cursor) : sheaf_tree_prev_rcu(&cursor));
}

static bool snapshot_is(const struct oracle *state)
{
	struct sheaf_tree_range range[KEYS];
	size_t got = 0;

	if (sheaf_tree_snapshot_range(tree, 0, UINT64_MAX, range, KEYS, &got, 0))
		return true;
	return got == state->n && memcmp(range, state->range, got * sizeof(range[0])) == 0;
}

/* 1: before, 2: after, 3: both; what readers see in other ways agrees. */
static unsigned look(const struct oracle *before, const struct oracle *after)
{
	const unsigned seen = all_loads(before, after);
	const struct oracle *state = seen & 2 ? after : before;

	if (!seen)
		wrong("loads see neither the old nor the new");
	if (!scan_is(state, true) || !scan_is(state, false))
		wrong("a scan does not see what loads do");
	if (!snapshot_is(state))
		wrong("a copy is not what loads see");
	return seen;
}

static void pick(uint64_t *state)
{
	const uint64_t length =
		test_below(state, 4) ? test_below(state, 5) : test_below(state, KEYS);

	shared->first = test_below(state, KEYS);
	shared->last = shared->first + length < KEYS ? shared->first + length : KEYS - 1;
	if (test_below(state, 2))
		shared->last = shared->first;
	shared->entry = test_below(state, 5) < 3
				? (void *)(uintptr_t)(2 * test_below(state, 1000) + 1)
				: NULL;
}

/* One write, an instruction at a time. Returns how many there were. */
static uint64_t step_through(pid_t child, const struct oracle *before, const struct oracle *after)
{
	const unsigned done = shared->done;
	uint64_t steps = 0;
	bool changed = false;

	while (__atomic_load_n(&shared->done, __ATOMIC_RELAXED) == done) {
		unsigned seen;

		if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) || !wait_stop(child, SIGTRAP))
			wrong("the child cannot be stepped");
		seen = look(before, after);
		if (changed && seen == 1)
			wrong("a write is undone");
		changed = seen == 2;
		steps++;
	}
	if (look(before, after) == 1)
		wrong("a write is not there when it is done");
	if (ptrace(PTRACE_CONT, child, NULL, NULL) || !wait_stop(child, SIGSTOP))
		wrong("the child does not go on");
	return steps;
}

/* Before there is a child: three levels of nodes, with room in them. */
static void fill(struct oracle *oracle)
{
	uint64_t i;

	for (i = 0; i < FILL; i++) {
		const uint64_t key = 3 * (i * 7 % FILL);

		if (sheaf_tree_store(tree, key, key + i % 2, &shared->node[i]))
			wrong("no memory");
		oracle_store(oracle, key, key + i % 2, &shared->node[i]);
	}
}

/* Of states that are equal now. */
static void trace(pid_t child, unsigned writes, uint64_t *state, struct oracle *before,
		  struct oracle *after)
{
	uint64_t steps = 0;
	unsigned i;

	for (i = 0; i < writes; i++) {
		pick(state);
		oracle_store(after, shared->first, shared->last, shared->entry);
		steps += step_through(child, before, after);
		oracle_store(before, shared->first, shared->last, shared->entry);
		if (sheaf_tree_check(tree))
			wrong(sheaf_tree_check(tree));
	}
	printf("%u writes, %llu instructions, %u nodes\n", writes, (unsigned long long)steps,
	       shared->nodes);
	if (steps < 20 * (uint64_t)writes)
		wrong("that is too few to be the writes");
}

static int run(unsigned flags, unsigned writes, uint64_t *state)
{
	struct oracle before = {.n = 0}, after = {.n = 0};
	int status;
	pid_t child;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		wrong("no memory");
	tree = NULL;
	make_tree(flags);
	fill(&before);
	fill(&after);
	child = fork();
	if (child < 0)
		wrong("no child");
	if (!child)
		child_main();
	if (!wait_stop(child, SIGSTOP)) {
		printf("a child cannot be traced here\n");
		return EXIT_SKIP;
	}
	/* It dies with this process, should a check fail. */
	if (ptrace(PTRACE_SETOPTIONS, child, NULL, PTRACE_O_EXITKILL)) {
		kill(child, SIGKILL);
		return EXIT_SKIP;
	}
	trace(child, writes, state, &before, &after);
	shared->leave = true;
	ptrace(PTRACE_CONT, child, NULL, NULL);
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status))
		wrong("the child has failed");
	/* The parent's own cache knows of no node. */
	sheaf_cache_destroy(cache, NULL);
	munmap(shared, sizeof(*shared));
	oracle_fini(&before);
	oracle_fini(&after);
	return 0;
}

int main(void)
{
	uint64_t state = test_seed();
	const unsigned writes = test_more(25);
	int result;

	if (test_asan() || test_tsan() || test_valgrind()) {
		printf("instructions are not what the compiler made\n");
		return EXIT_SKIP;
	}
	result = run(0, writes, &state);
	if (!result)
		result = run(SHEAF_TREE_GAPS, writes, &state);
	return result;
}
