/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a wrong free ends the process with a message that names the pointer and
 * the reason, whatever the pointer is: free already (in the same batch, in an older
 * one, in a region that has gone back), never an object (of the stack, of malloc, of
 * unmapped and impossible addresses), inside an object, behind the last object of a slab, of
 * another backend. A right free beside the wrong one does not hide it. Each case is a
 * child that must die of SIGABRT. With a callback the report names backend, pointer and
 * reason, the wrong pointer is ignored and all right ones are freed. In the hardened mode, too;
 * and there a write that runs past a slab ends the process by SIGSEGV.
 */
#include <sheaf/slab.h>

#include "common.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sheaf_backend make(size_t size, uint32_t spare)
{
	struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = size,
		.nodes = 2,
		.spare_regions = spare,
	};
	struct sheaf_slab *slab;

	ck_assert_int_eq(sheaf_slab_create(&slab, &attr), 0);
	return sheaf_slab_backend(slab);
}

static void take(struct sheaf_backend b, size_t n, void **objects)
{
	ck_assert_uint_eq(b.ops->alloc_bulk(b.ctx, 0, 0, n, objects), n);
}

/* In a child, free a pointer between two that are right. */
static void give_in_child(struct sheaf_backend b, void *wrong, void *right)
{
	const struct rlimit no_core = {0, 0};
	void *objects[2] = {right, wrong};

	setrlimit(RLIMIT_CORE, &no_core);
	signal(SIGABRT, SIG_DFL);
	if (b.ops)
		b.ops->free_bulk(b.ctx, 2, objects);
	_exit(0);
}

static void read_all(int fd, char *text, size_t room)
{
	size_t n = 0;
	ssize_t got;

	while (n < room - 1 && (got = read(fd, text + n, room - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
}

/* Freeing `wrong`, after `right`, ends with a message that has the pointer and `why`. */
static void expect(struct sheaf_backend b, void *wrong, void *right, const char *why)
{
	char text[4096], pointer[32];
	int status, fds[2];
	pid_t pid;

	ck_assert_int_eq(pipe(fds), 0);
	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		dup2(fds[1], STDERR_FILENO);
		give_in_child(b, wrong, right);
	}
	close(fds[1]);
	read_all(fds[0], text, sizeof(text));
	close(fds[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT,
		      "freeing %p: status %#x, wanted an abort: %s", wrong, (unsigned)status, why);
	snprintf(pointer, sizeof(pointer), "freed %p", wrong);
	ck_assert_msg(strstr(text, "libsheaf: ") && strstr(text, pointer) && strstr(text, why),
		      "freeing %p said \"%s\", wanted \"%s\"", wrong, text, why);
}

START_TEST(double_free)
{
	struct sheaf_backend b = make(256, 1);
	void *objects[200];

	take(b, 200, objects);
	/* Twice in one batch, and something free since an older one. */
	expect(b, objects[3], objects[3], "double free");
	b.ops->free_bulk(b.ctx, 1, objects);
	expect(b, objects[0], objects[1], "double free");
	/* Never handed out. */
	expect(b, (char *)objects[199] + 256, objects[1], "double free");
	/* All objects of the slab, then all of the region are free. */
	b.ops->free_bulk(b.ctx, 63, objects + 1);
	expect(b, objects[63], objects[64], "double free");
	b.ops->free_bulk(b.ctx, 135, objects + 64);
	expect(b, objects[70], objects[199], "double free");
	b.ops->free_bulk(b.ctx, 1, objects + 199);
	b.ops->destroy(b.ctx);
}
END_TEST

START_TEST(double_free_in_a_region_that_is_gone)
{
	struct sheaf_backend b = make(65536, UINT32_MAX);
	void *objects[33];

	take(b, 33, objects);
	b.ops->free_bulk(b.ctx, 1, objects + 32);
	expect(b, objects[32], objects[0], "memory is of no slab backend");
	b.ops->free_bulk(b.ctx, 32, objects);
	b.ops->destroy(b.ctx);
}
END_TEST

START_TEST(never_an_object)
{
	struct sheaf_backend b = make(256, 1);
	void *heap = malloc(256);
	void *object;
	void *wrong[] = {
		NULL,
		(void *)(uintptr_t)8,
		&object,
		heap,
		(void *)(uintptr_t) "text",
		(void *)UINTPTR_MAX,
		(void *)(UINTPTR_MAX - 255),
		(void *)((uintptr_t)1 << 47),
		(void *)((uintptr_t)1 << 48),
		(void *)((uintptr_t)1 << 62),
		NULL,
		NULL,
	};
	size_t n = sizeof(wrong) / sizeof(wrong[0]);

	take(b, 1, &object);
	/* Same slot of the map, other leaf; and the same leaf, half its width away. */
	wrong[n - 2] = (void *)((uintptr_t)object ^ (uintptr_t)1 << 48);
	wrong[n - 1] = (void *)((uintptr_t)object ^ (uintptr_t)1 << 33);
	for (size_t i = 1; i < n; i++)
		expect(b, wrong[i], object, "memory is of no slab backend");
	b.ops->free_bulk(b.ctx, 1, &object);
	b.ops->destroy(b.ctx);
	free(heap);
}
END_TEST

START_TEST(not_the_start_of_an_object)
{
	/* Of 1000 bytes, 65 make a slab of 64 KiB, with a rest of 32 behind. */
	static const size_t sizes[] = {1000, 8, 48, 65536};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct sheaf_backend b = make(sizes[i], 1);
		char *objects[70];

		take(b, 70, (void **)objects);
		expect(b, objects[0] + 1, objects[1], "misaligned");
		expect(b, objects[2] - 1, objects[1], i == 3 ? "misaligned" : "");
		expect(b, objects[5] + sizes[i] / 2, objects[1], "misaligned");
		if (sizes[i] == 1000)
			expect(b, objects[0] + 65 * 1008, objects[1], "misaligned");
		b.ops->free_bulk(b.ctx, 70, (void *const *)objects);
		b.ops->destroy(b.ctx);
	}
}
END_TEST

START_TEST(object_of_another_backend)
{
	struct sheaf_backend a = make(256, 1), b = make(256, 1);
	void *of_a[2], *of_b[2];

	take(a, 2, of_a);
	take(b, 2, of_b);
	expect(a, of_b[0], of_a[0], "another slab backend");
	expect(b, of_a[1], of_b[1], "another slab backend");
	a.ops->free_bulk(a.ctx, 2, of_a);
	a.ops->destroy(a.ctx);
	expect(b, of_a[1], of_b[1], "memory is of no slab backend");
	b.ops->free_bulk(b.ctx, 2, of_b);
	b.ops->destroy(b.ctx);
}
END_TEST

/* The pointers are right here: nobody may die. */
START_TEST(right_frees_are_taken)
{
	struct sheaf_backend b = make(1000, 1);
	void *objects[70];

	take(b, 70, objects);
	for (size_t i = 0; i + 1 < 70; i += 7) {
		int status;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (!pid)
			give_in_child(b, objects[i], objects[i + 1]);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	b.ops->free_bulk(b.ctx, 70, objects);
	b.ops->destroy(b.ctx);
}
END_TEST

struct reports {
	unsigned n;
	const void *object;
	enum sheaf_slab_misuse why;
	bool named;
};

static void note(void *arg, const struct sheaf_slab_report *report)
{
	struct reports *reports = arg;
	char pointer[32];

	snprintf(pointer, sizeof(pointer), "%p", report->object);
	reports->n++;
	reports->object = report->object;
	reports->why = report->why;
	reports->named = strcmp(report->name, "planted") == 0 &&
			 strstr(report->text, "\"planted\"") && strstr(report->text, pointer);
}

static struct sheaf_backend make_noting(struct reports *reports, unsigned nodes, bool hardened)
{
	const struct sheaf_slab_attr attr = {
		.size = sizeof(attr),
		.object_size = 1000,
		.nodes = nodes,
		.name = "planted",
		.hardened = hardened,
		.seed = 1,
		.misuse = note,
		.misuse_arg = reports,
	};
	struct sheaf_slab *slab;

	ck_assert_int_eq(sheaf_slab_create(&slab, &attr), 0);
	return sheaf_slab_backend(slab);
}

/* Free `wrong` in the middle of right ones: one report, and the right ones are free. */
static void expect_note(struct sheaf_backend b, struct reports *reports, void *wrong,
			enum sheaf_slab_misuse why)
{
	struct sheaf_slab_stats before, after;
	void *objects[301];

	take(b, 300, objects);
	objects[300] = objects[100];
	objects[100] = wrong;
	sheaf_slab_stats(b.ctx, &before);
	reports->n = 0;
	b.ops->free_bulk(b.ctx, 301, objects);
	sheaf_slab_stats(b.ctx, &after);
	ck_assert_uint_eq(reports->n, 1);
	ck_assert_ptr_eq(reports->object, wrong);
	ck_assert_int_eq(reports->why, why);
	ck_assert(reports->named);
	ck_assert_uint_eq(before.objects - after.objects, 300);
	ck_assert(sheaf_slab_check(b.ctx));
}

START_TEST(callback_gets_the_report)
{
	for (unsigned i = 0; i < 4; i++) {
		struct reports reports = {0}, other_reports = {0};
		bool hardened = i % 2;
		struct sheaf_backend b = make_noting(&reports, i < 2 ? 1 : 2, hardened);
		struct sheaf_backend other = make_noting(&other_reports, 1, hardened);
		char *held[4], *theirs;

		take(b, 4, (void **)held);
		take(other, 1, (void **)&theirs);
		expect_note(b, &reports, &reports, SHEAF_SLAB_FOREIGN);
		expect_note(b, &reports, theirs, SHEAF_SLAB_OTHER);
		expect_note(b, &reports, held[0] + 1, SHEAF_SLAB_MISALIGNED);
		/* Before the first object of a hardened slab, and in its guard. */
		expect_note(b, &reports, (char *)((uintptr_t)held[0] & ~(uintptr_t)65535) + 8,
			    SHEAF_SLAB_MISALIGNED);
		expect_note(b, &reports, (char *)((uintptr_t)held[0] | 65535) - 7,
			    SHEAF_SLAB_MISALIGNED);
		b.ops->free_bulk(b.ctx, 1, (void *const *)&held[3]);
		expect_note(b, &reports, held[3], SHEAF_SLAB_DOUBLE);
		ck_assert_uint_eq(other_reports.n, 0);
		b.ops->free_bulk(b.ctx, 3, (void *const *)held);
		other.ops->free_bulk(other.ctx, 1, (void *const *)&theirs);
		b.ops->destroy(b.ctx);
		other.ops->destroy(other.ctx);
	}
}
END_TEST

/* Write to `at` in a child. Returns the signal that ended it, or 0. */
static int write_in_child(char *at)
{
	const struct rlimit no_core = {0, 0};
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGSEGV, SIG_DFL);
		*(volatile char *)at = 1;
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

START_TEST(write_past_a_hardened_slab_faults)
{
	static const size_t sizes[] = {16, 256, 1008, 4096, 65536};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		const struct sheaf_slab_attr attr = {
			.size = sizeof(attr),
			.object_size = sizes[i],
			.nodes = 1,
			.hardened = true,
		};
		struct sheaf_slab_stats stats;
		struct sheaf_slab *slab;
		struct sheaf_backend b;
		char *objects[4096], *last;

		ck_assert_int_eq(sheaf_slab_create(&slab, &attr), 0);
		b = sheaf_slab_backend(slab);
		sheaf_slab_stats(slab, &stats);
		ck_assert_uint_le(stats.slab_objects, 4096);
		take(b, stats.slab_objects, (void **)objects);
		last = objects[0];
		for (uint32_t k = 0; k < stats.slab_objects; k++) {
			memset(objects[k], 1, sizes[i]);
			if (objects[k] > last)
				last = objects[k];
		}
		/* A checker says so in its own way. */
		if (!test_slow())
			ck_assert_int_eq(write_in_child(last + sizes[i]), SIGSEGV);
		b.ops->free_bulk(b.ctx, stats.slab_objects, (void *const *)objects);
		b.ops->destroy(b.ctx);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("slab-misuse");
	TCase *tc = tcase_create("misuse");

	tcase_add_test(tc, double_free);
	tcase_add_test(tc, double_free_in_a_region_that_is_gone);
	tcase_add_test(tc, never_an_object);
	tcase_add_test(tc, not_the_start_of_an_object);
	tcase_add_test(tc, object_of_another_backend);
	tcase_add_test(tc, right_frees_are_taken);
	tcase_add_test(tc, callback_gets_the_report);
	tcase_add_test(tc, write_past_a_hardened_slab_faults);
	suite_add_tcase(suite, tc);
	return test_run(suite);
}
