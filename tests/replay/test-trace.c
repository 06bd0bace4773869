/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * Proves that a recording is read as doc/trace.md says: what each call becomes, the order
 * in which interleaved calls take effect, who shares which address space, and what
 * the shadow holds for true. Bad recordings are files of their own (tests/data/bad).
 */
#include "plan.h"
#include "shadow.h"
#include "trace.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define HEAD "sheaf-trace 1\ncommand ./x\npage 4096\n"
#define START                                                                                      \
	"10  execve(\"./x\", [\"./x\", \"a, b)\"], 0x7ffc0 /* 1 var */) = 0\n"                     \
	"10  maps after execve {\n"                                                                \
	"00400000-00401000 r-xp 00001000 fe:00 77   /usr/bin/x y\n"                                \
	"00401000-00402000 -w-s\n"                                                                 \
	"7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0  [stack]\n"                               \
	"10  }\n"
#define END "10  exit_group(0) = ?\n10  +++ exited with 0 +++\nend\n"

static struct trace trace;
static struct plan plan;
static struct shadow shadow;
static char path[64];

/* Read a recording with these lines between its start and its end. */
static int read_lines(const char *lines, bool packed)
{
	gzFile file;
	int fd;

	strcpy(path, "/tmp/sheaf-trace.XXXXXX");
	fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	file = gzdopen(fd, packed ? "wb" : "wbT");
	ck_assert_ptr_nonnull(file);
	gzprintf(file, "%s%s", HEAD, START);
	if (*lines)
		gzwrite(file, lines, (unsigned)strlen(lines));
	gzprintf(file, "%s", END);
	ck_assert_int_eq(gzclose(file), Z_OK);
	return trace_read(&trace, path);
}

static void done(void)
{
	shadow_free(&shadow);
	plan_free(&plan);
	trace_free(&trace);
	unlink(path);
}

static void must_read(const char *lines)
{
	if (read_lines(lines, false))
		ck_abort_msg("%s", trace.error);
}

/* Event @index, not counting the execve at the start. */
static const struct trace_event *event(size_t index)
{
	ck_assert_uint_lt(index + 1, trace.event_count);
	return &trace.events[index + 1];
}

struct expect {
	const char *call;
	enum trace_kind kind; /* TRACE_KINDS: no event */
	unsigned prot;
	unsigned flags;
	uint64_t addr, len, new_len, result;
};

static const struct expect calls[] = {
	{"mmap(NULL, 5000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f000",
	 TRACE_MMAP, TRACE_R | TRACE_W, TRACE_ANON, 0, 8192, 0, 0x7f000},
	{"mmap(0x7f000, 4096, PROT_NONE, MAP_SHARED|MAP_FIXED|MAP_NORESERVE, 3</usr/x>, 0x1000) = 0x7f000",
	 TRACE_MMAP, TRACE_S, TRACE_FIXED, 0x7f000, 4096, 0, 0x7f000},
	{"mmap(0x7f000, 4096, PROT_EXEC, MAP_PRIVATE|MAP_FIXED_NOREPLACE, 3, 0)     = 0x7f000",
	 TRACE_MMAP, TRACE_X, TRACE_NOREPLACE, 0x7f000, 4096, 0, 0x7f000},
	{"mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_32BIT, 3, 0) = 0x41000", TRACE_MMAP, TRACE_R,
	 TRACE_LOW, 0, 4096, 0, 0x41000},
	{"mmap(NULL, 18446744073709551615, what, ever, 3, 0) = -1 ENOMEM (Cannot allocate memory)",
	 TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"munmap(0x400000, 1) = 0", TRACE_MUNMAP, 0, 0, 0x400000, 4096, 0, 0},
	{"munmap(0x400001, 1) = -1 EINVAL (Invalid argument)", TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"munmap(0x400000, 4097) = ?", TRACE_MUNMAP, 0, 0, 0x400000, 8192, 0, 0},
	{"munmap(0x400000, 1) = ? ERESTARTSYS (To be restarted)", TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"mprotect(0x400000, 4096, PROT_READ|PROT_GROWSDOWN) = 0", TRACE_MPROTECT, TRACE_R,
	 TRACE_GROWSDOWN, 0x400000, 4096, 0, 0},
	{"mprotect(0x400000, 4096, PROT_READ) = -1 ENOMEM (Cannot allocate memory)", TRACE_MPROTECT,
	 TRACE_R, TRACE_PREFIX, 0x400000, 4096, 0, 0},
	{"mprotect(0x400000, 4096, PROT_READ) = -1 EACCES (Permission denied)", TRACE_KINDS, 0, 0, 0,
	 0, 0, 0},
	{"mprotect(0x400000, 0, PROT_READ) = 0", TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"pkey_mprotect(0x400000, 4096, PROT_NONE, 1) = 0", TRACE_MPROTECT, 0, 0, 0x400000, 4096, 0, 0},
	{"mremap(0x400000, 4096, 8192, MREMAP_MAYMOVE) = 0x500000", TRACE_MREMAP, 0, 0, 0x400000,
	 4096, 8192, 0x500000},
	{"mremap(0x401000, 0, 8192, MREMAP_MAYMOVE|MREMAP_FIXED, 0x500000) = 0x500000", TRACE_MREMAP,
	 0, TRACE_KEEP | TRACE_FIXED, 0x401000, 4096, 8192, 0x500000},
	{"mremap(0x401000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_DONTUNMAP) = 0x500000", TRACE_MREMAP, 0,
	 TRACE_KEEP, 0x401000, 4096, 4096, 0x500000},
	{"mremap(0x401000, 4096, 8192, MREMAP_MAYMOVE) = ?", TRACE_MUNMAP, 0, 0, 0x401000, 4096, 0, 0},
	{"brk(NULL) = 0x55500123", TRACE_BRK, 0, 0, 0, 0, 0, 0x55500123},
	{"brk(0x55600000) = 0x55600000", TRACE_BRK, 0, 0, 0x55600000, 0, 0, 0x55600000},
	{"madvise(0x400000, 4096, MADV_DONTFORK) = 0", TRACE_ADVISE, 0, TRACE_NOFORK, 0x400000, 4096,
	 0, 0},
	{"madvise(0x400000, 4096, MADV_DOFORK) = 0", TRACE_ADVISE, 0, 0, 0x400000, 4096, 0, 0},
	{"madvise(0x400000, 4096, MADV_DONTNEED) = 0", TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"fork() = 77", TRACE_FORK, 0, 0, 0, 0, 0, 77},
	{"vfork( ) = 77", TRACE_FORK, 0, TRACE_SHARE, 0, 0, 0, 77},
	{"clone(child_stack=NULL, flags=CLONE_CHILD_CLEARTID|SIGCHLD, child_tidptr=0x7f) = 77",
	 TRACE_FORK, 0, 0, 0, 0, 0, 77},
	{"clone(child_stack=0x7f, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 77", TRACE_FORK, 0,
	 TRACE_SHARE, 0, 0, 0, 77},
	{"clone3({flags=CLONE_FS|CLONE_THREAD|CLONE_VM, stack=0x7f} => {parent_tid=[77]}, 88) = 77",
	 TRACE_FORK, 0, TRACE_SHARE | TRACE_THREAD, 0, 0, 0, 77},
	{"clone3({flags=CLONE_VMX|CLONE_THREADS}, 88) = 77", TRACE_FORK, 0, 0, 0, 0, 0, 77},
	{"clone3({flags=CLONE_VM}, 88) = -1 EAGAIN (Resource temporarily unavailable)", TRACE_KINDS,
	 0, 0, 0, 0, 0, 0},
	{"execve(\"/bin/\\\"x), \", [\"x\"], 0x7ffc0 /* 1, 2 \" */) = -1 ENOENT (No such file)",
	 TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"shmat(3, NULL, 0) = -1 EINVAL (Invalid argument)", TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"mlock(0x400000, 4096) = 0", TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = ?", TRACE_KINDS, 0, 0, 0, 0, 0, 0},
	{"--- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---", TRACE_KINDS, 0, 0, 0, 0, 0, 0},
};

START_TEST(each_call)
{
	const struct expect *want = &calls[_i];
	const struct trace_event *got;
	char line[256];

	snprintf(line, sizeof(line), "10  %s\n", want->call);
	must_read(line);
	if (want->kind == TRACE_KINDS) {
		ck_assert_uint_eq(trace.event_count, 2);
		ck_assert_int_eq(event(0)->kind, TRACE_GONE);
		done();
		return;
	}
	ck_assert_uint_eq(trace.event_count, 3);
	got = event(0);
	ck_assert_int_eq(got->kind, want->kind);
	ck_assert_uint_eq(got->prot, want->prot);
	ck_assert_uint_eq(got->flags, want->flags);
	ck_assert_uint_eq(got->addr, want->addr);
	ck_assert_uint_eq(got->len, want->len);
	ck_assert_uint_eq(got->new_len, want->new_len);
	ck_assert_uint_eq(got->result, want->result);
	ck_assert_uint_eq(got->line, 10);
	ck_assert_int_eq(got->tid, 10);
	done();
}
END_TEST

/* The map that execve left: ranges, letters, which one is the stack. */
START_TEST(first_map)
{
	must_read("");
	ck_assert_str_eq(trace.command, "./x");
	ck_assert_uint_eq(trace.map_count, 1);
	ck_assert_uint_eq(trace.events[0].map, 0);
	ck_assert_uint_eq(trace.range_count, 3);
	ck_assert_uint_eq(trace.ranges[0].first, 0x400000);
	ck_assert_uint_eq(trace.ranges[0].last, 0x400fff);
	ck_assert_str_eq(trace_prot_name(trace.ranges[0].prot), "r-xp");
	ck_assert_str_eq(trace_prot_name(trace.ranges[1].prot), "-w-s");
	ck_assert(!trace.ranges[0].stack && !trace.ranges[1].stack && trace.ranges[2].stack);
	done();
}
END_TEST

/* Plain and packed files are the same recording. */
START_TEST(packed)
{
	const char *lines = "10  munmap(0x400000, 4096) = 0\n";
	size_t events;

	must_read(lines);
	events = trace.event_count;
	done();
	ck_assert_int_eq(read_lines(lines, true), 0);
	ck_assert_uint_eq(trace.event_count, events);
	done();
}
END_TEST

static void expect_order(const char *lines, const uint64_t *addresses, size_t count)
{
	must_read(lines);
	for (size_t i = 0; i < count; i++) {
		const struct trace_event *got = event(i);

		ck_assert_uint_eq(got->kind == TRACE_MMAP ? got->result : got->addr, addresses[i]);
	}
	done();
}

/* What takes away counts at its entry, what gives at its return. */
START_TEST(order_of_halves)
{
	static const uint64_t taken_first[] = {0, 0x400000, 0x400000};
	static const uint64_t given_last[] = {0, 0x500000, 0x600000};

	expect_order("10  clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 11\n"
		     "10  munmap(0x400000, 4096 <unfinished ...>\n"
		     "11  mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x400000\n"
		     "10  <... munmap resumed>) = 0\n",
		     taken_first, 3);
	expect_order("10  clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 11\n"
		     "10  mmap(NULL, 4096, PROT_READ <unfinished ...>\n"
		     "11  mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x500000\n"
		     "10  <... mmap resumed>, MAP_PRIVATE, 3, 0) = 0x600000\n",
		     given_last, 3);
}
END_TEST

/* A child's lines may come before its parent's second half. */
START_TEST(child_before_result)
{
	must_read("10  clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n"
		  "11  munmap(0x400000, 4096) = 0\n"
		  "10  <... clone resumed>, child_tidptr=0x7f) = 11\n"
		  "11  +++ killed by SIGKILL +++\n");
	ck_assert_int_eq(plan_make(&plan, &trace), 0);
	ck_assert_uint_eq(plan.spaces, 2);
	ck_assert_int_eq(plan.steps[1].kind, PLAN_FORK);
	ck_assert_uint_eq(plan.steps[1].from, 0);
	ck_assert_int_eq(plan.steps[2].kind, PLAN_CALL);
	ck_assert_uint_eq(plan.steps[2].space, 1);
	ck_assert_int_eq(plan.steps[3].kind, PLAN_DROP);
	ck_assert_uint_eq(plan.steps[3].space, 1);
	done();
}
END_TEST

/* A thread that is not the first makes an execve: it takes over the first one's number. */
START_TEST(superseded)
{
	must_read("10  clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 11\n"
		  "10  clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 12\n"
		  "12  munmap(0x400000, 4096 <unfinished ...>\n"
		  "11  execve(\"/bin/true\", [\"true\"], 0x7ffc0 /* 1 var */ <pid changed to 10 ...>\n"
		  "12  <... munmap resumed>) = ?\n"
		  "12  +++ exited with 0 +++\n"
		  "10  +++ superseded by execve in pid 11 +++\n"
		  "10  <... execve resumed>) = 0\n"
		  "10  maps after execve {\n"
		  "00400000-00401000 r-xp\n"
		  "10  }\n"
		  "10  munmap(0x400000, 4096) = 0\n");
	ck_assert_int_eq(plan_make(&plan, &trace), 0);
	ck_assert_uint_eq(plan.spaces, 2);
	ck_assert_uint_eq(plan.count, 6);
	ck_assert_int_eq(plan.steps[2].kind, PLAN_START);
	ck_assert_uint_eq(plan.steps[2].space, 1);
	ck_assert_int_eq(plan.steps[3].kind, PLAN_DROP);
	ck_assert_uint_eq(plan.steps[3].space, 0);
	ck_assert_int_eq(plan.steps[4].kind, PLAN_CALL);
	ck_assert_uint_eq(plan.steps[4].space, 1);
	done();
}
END_TEST

/* vfork shares until the child's execve; the last thread takes a space along. */
START_TEST(shared_spaces)
{
	must_read("10  vfork( <unfinished ...>\n"
		  "11  munmap(0x400000, 4096) = 0\n"
		  "11  execve(\"/bin/true\", [\"true\"], 0x7ffc0 /* 1 var */) = 0\n"
		  "10  <... vfork resumed>) = 11\n"
		  "11  maps after execve {\n"
		  "00400000-00401000 r-xp\n"
		  "11  }\n"
		  "11  maps before exit {\n"
		  "00400000-00401000 r-xp\n"
		  "11  }\n"
		  "11  exit_group(0) = ?\n"
		  "11  +++ exited with 0 +++\n");
	ck_assert_int_eq(plan_make(&plan, &trace), 0);
	ck_assert_uint_eq(plan.spaces, 2);
	ck_assert_uint_eq(plan.checks, 1);
	ck_assert_uint_eq(plan.steps[1].space, 0);
	ck_assert_int_eq(plan.steps[2].kind, PLAN_START);
	ck_assert_int_eq(plan.steps[3].kind, PLAN_CHECK);
	ck_assert_uint_eq(plan.steps[3].space, 1);
	ck_assert_int_eq(plan.steps[4].kind, PLAN_DROP);
	ck_assert_uint_eq(plan.steps[4].space, 1);
	ck_assert_int_eq(plan.steps[5].kind, PLAN_DROP);
	ck_assert_uint_eq(plan.steps[5].space, 0);
	done();
}
END_TEST

static uint32_t probe_of(const struct shadow_space *space, uint64_t address)
{
	for (uint32_t i = 0; i < space->probe_count; i++)
		if (space->probes[i] == address)
			return i;
	ck_abort_msg("no probe at %llx", (unsigned long long)address);
}

/* The history of one address, and what a window of writes allows. */
START_TEST(history)
{
	const struct shadow_space *space;
	uint32_t probe;

	must_read("10  mprotect(0x400000, 4096, PROT_READ) = 0\n"
		  "10  munmap(0x401000, 4096) = 0\n"
		  "10  munmap(0x400000, 4096) = 0\n"
		  "10  mmap(0x400000, 4096, PROT_NONE, MAP_SHARED|MAP_FIXED, 3, 0) = 0x400000\n");
	ck_assert_int_eq(plan_make(&plan, &trace), 0);
	ck_assert_int_eq(shadow_make(&shadow, &plan, &trace), 0);
	space = &shadow.spaces[0];
	ck_assert_uint_eq(space->writes, 5);
	probe = probe_of(space, 0x400000);
	ck_assert(shadow_allows(space, probe, 0, 0, TRACE_R | TRACE_X));
	ck_assert(!shadow_allows(space, probe, 0, 0, TRACE_R));
	ck_assert(shadow_allows(space, probe, 0, 1, TRACE_R | TRACE_X));
	ck_assert(shadow_allows(space, probe, 0, 1, TRACE_R));
	ck_assert(!shadow_allows(space, probe, 0, 2, SHADOW_HOLE));
	ck_assert(shadow_allows(space, probe, 2, 2, TRACE_R));
	ck_assert(!shadow_allows(space, probe, 2, 2, TRACE_R | TRACE_X));
	ck_assert(shadow_allows(space, probe, 3, 3, SHADOW_HOLE));
	ck_assert(!shadow_allows(space, probe, 3, 3, TRACE_R));
	ck_assert(shadow_allows(space, probe, 4, 4, TRACE_S));
	ck_assert(shadow_allows(space, probe, 5, 5, SHADOW_HOLE));
	probe = probe_of(space, 0x401fff);
	ck_assert(shadow_allows(space, probe, 1, 1, TRACE_W | TRACE_S));
	ck_assert(shadow_allows(space, probe, 2, 2, SHADOW_HOLE));
	done();
}
END_TEST

/* The message names file and line, and lets no control character through. */
START_TEST(message)
{
	char want[128];

	ck_assert_int_eq(read_lines("10  mm\033[2Jap(1) = 0\n", false), -1);
	snprintf(want, sizeof(want), "%s:10: not a call: 'mm?[2Jap(1) = 0'", path);
	ck_assert_str_eq(trace.error, want);
	done();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("trace");
	TCase *tcase = tcase_create("trace");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tcase, each_call, 0, sizeof(calls) / sizeof(*calls));
	tcase_add_test(tcase, first_map);
	tcase_add_test(tcase, packed);
	tcase_add_test(tcase, order_of_halves);
	tcase_add_test(tcase, child_before_result);
	tcase_add_test(tcase, superseded);
	tcase_add_test(tcase, shared_spaces);
	tcase_add_test(tcase, history);
	tcase_add_test(tcase, message);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
