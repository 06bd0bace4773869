/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The restartable sequences of a per-CPU slot, aarch64. What they do and may assume is in
 * slot_cpu.h; offsets are proven there.
 *
 * Each runs from label 1 to label 2. The instruction before 2 is the only one that writes
 * anything that counts: the committing store, always of one register. If the thread is
 * preempted, moved or gets a signal before it, the kernel continues at label 4, and nothing
 * has happened. Who else uses the slot runs on the same CPU, after a context switch, or comes
 * after a fence; so no store here is a release, but for one, whose value a remote party trusts
 * without a fence (has_part() in slot_remote.c). Ways out, for all of them:
 *
 *	(falls through)  committed
 *	unmet            what the sequence is conditional on is not so
 *	away             no slot for this CPU, or a remote party has stopped it
 *	abort            interrupted; nothing happened
 *
 * Registers: x9 the slot, later a sheaf; x10 to x13 scratch.
 */
#ifndef RSEQ_AARCH64_H
#define RSEQ_AARCH64_H

/* Tells the kernel the sequence, and finds this CPU's slot: x9. */
#define RSEQ_ENTER                                                                                 \
	".pushsection __rseq_cs, \"aw\"\n\t"                                                        \
	".balign 32\n"                                                                             \
	"3:\n\t"                                                                                   \
	".long 0, 0\n\t"                                                                           \
	".quad 1f, 2f - 1f, 4f\n\t"                                                                \
	".popsection\n\t" RSEQ_ANNOUNCE                                                            \
	"1:\n\t"                                                                                   \
	"ldr w9, [%[area], #4]\n\t"                                                                \
	"cmp w9, %w[n]\n\t"                                                                        \
	"b.hs %l[away]\n\t"                                                                        \
	"add x9, %[slots], x9, lsl #7\n\t"

/* The signature must stand right before the way out. */
#define RSEQ_LEAVE                                                                                 \
	"2:\n\t"                                                                                   \
	".pushsection .text.unlikely.rseq, \"ax\"\n\t"                                             \
	".inst 0xd428bc00\n"                                                                       \
	"4:\n\t"                                                                                   \
	"b %l[abort]\n\t"                                                                          \
	".popsection\n\t"

#ifndef RSEQ_MUTANT_UNANNOUNCED
#define RSEQ_ANNOUNCE                                                                              \
	"adrp x9, 3b\n\t"                                                                          \
	"add x9, x9, :lo12:3b\n\t"                                                                 \
	"str x9, [%[area], #8]\n\t"
#else
#define RSEQ_ANNOUNCE /* for a test that must fail: nobody will interrupt us */
#endif

/* A pause in the middle, for tests; the count is a memory operand, zero in between. */
#ifdef RSEQ_WIDEN
#define RSEQ_PAUSE                                                                                 \
	"ldr w14, %[pause]\n"                                                                      \
	"5: subs w14, w14, #1\n\t"                                                                 \
	"b.hs 5b\n\t"
#define RSEQ_PAUSE_INPUT , [pause] "m"(rseq_pause)
#define RSEQ_PAUSE_CLOBBER , "x14"
#else
#define RSEQ_PAUSE
#define RSEQ_PAUSE_INPUT
#define RSEQ_PAUSE_CLOBBER
#endif

#define RSEQ_IN(cpus)                                                                              \
	[area] "r"(rseq_self()), [n] "r"((cpus)->n), [slots] "r"((cpus)->slots) RSEQ_PAUSE_INPUT
#define RSEQ_CLOBBER "x9", "x10", "x11", "x12", "x13", "cc", "memory" RSEQ_PAUSE_CLOBBER

/* away unless the slot's stop is 0 */
#define RSEQ_UNLESS_STOPPED                                                                        \
	"ldr w10, [x9, #32]\n\t"                                                                   \
	"cbnz w10, %l[away]\n\t"

/* x11 = place in pair[] that is not main's; x10 = the sheaf there */
#define RSEQ_SPARE                                                                                 \
	"ldr x10, [x9]\n\t"                                                                        \
	"ldr x11, [x9, #16]\n\t"                                                                   \
	"cmp x10, x11\n\t"                                                                         \
	"cset x11, eq\n\t"                                                                         \
	"add x11, x9, x11, lsl #3\n\t"                                                             \
	"ldr x10, [x11, #16]\n\t"

/*
 * pop: object = main->objects[main->size - 1]; main->size--
 *	unmet if main->size == 0
 */
static inline enum slot_did cpu_pop(const struct cpu_slots *cpus, void **popped)
{
	void *object;

	__asm__ goto volatile(RSEQ_ENTER
		     "ldr x9, [x9]\n\t"
		     "ldr w10, [x9]\n\t"
		     "cbz w10, %l[unmet]\n\t"
		     "sub w10, w10, #1\n\t"
		     "add x11, x9, x10, lsl #3\n\t"
		     "ldr %[object], [x11, #32]\n\t" RSEQ_PAUSE
		     "str w10, [x9]\n" RSEQ_LEAVE
		     : [object] "=&r"(object)
		     : RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : unmet, away, abort);
	*popped = object;
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/*
 * push: sheaf->objects[sheaf->size] = object; sheaf->size++
 *	unmet if sheaf->size == sheaf->capacity; sheaf is main or rcu
 */
#define RSEQ_PUSH(sheaf)                                                                           \
	__asm__ goto volatile(RSEQ_ENTER                                                           \
		     "ldr x9, [x9, #" sheaf "]\n\t"                                               \
		     "ldr w10, [x9]\n\t"                                                         \
		     "ldr w11, [x9, #4]\n\t"                                                     \
		     "cmp w10, w11\n\t"                                                          \
		     "b.eq %l[unmet]\n\t"                                                        \
		     "add x11, x9, x10, lsl #3\n\t"                                              \
		     "str %[object], [x11, #32]\n\t"                                             \
		     "add w10, w10, #1\n\t" RSEQ_PAUSE                                           \
		     "str w10, [x9]\n" RSEQ_LEAVE                                                \
		     :                                                                             \
		     : [object] "r"(object), RSEQ_IN(cpus)                                         \
		     : RSEQ_CLOBBER                                                                \
		     : unmet, away, abort)

static inline enum slot_did cpu_push(const struct cpu_slots *cpus, void *object)
{
	RSEQ_PUSH("0");
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

static inline enum slot_did cpu_push_rcu(const struct cpu_slots *cpus, void *object)
{
	RSEQ_PUSH("8");
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/*
 * pop many: k = min(n, main->size); objects[0 .. k-1] = the newest k, the newest last;
 *	main->size -= k; unmet if main->size == 0
 */
static inline enum slot_did cpu_pop_many(const struct cpu_slots *cpus, uint32_t *n, void **objects)
{
	uint32_t k;

	__asm__ goto volatile(RSEQ_ENTER
		     "ldr x9, [x9]\n\t"
		     "ldr w10, [x9]\n\t"
		     "cbz w10, %l[unmet]\n\t"
		     "cmp w10, %w[wanted]\n\t"
		     "csel %w[k], w10, %w[wanted], lo\n\t"
		     "sub w10, w10, %w[k]\n\t"
		     "add x11, x9, x10, lsl #3\n\t"
		     "add x11, x11, #32\n\t"
		     "mov w12, %w[k]\n\t"
		     "b 7f\n"
		     "6:\n\t"
		     "ldr x13, [x11, x12, lsl #3]\n\t"
		     "str x13, [%[objects], x12, lsl #3]\n"
		     "7:\n\t"
		     "subs w12, w12, #1\n\t"
		     "b.hs 6b\n\t" RSEQ_PAUSE
		     "str w10, [x9]\n" RSEQ_LEAVE
		     : [k] "=&r"(k)
		     : [wanted] "r"(*n), [objects] "r"(objects), RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : unmet, away, abort);
	*n = k;
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/*
 * push many: k = min(n, main->capacity - main->size); append objects[0 .. k-1];
 *	main->size += k; unmet if main->size == main->capacity
 */
static inline enum slot_did cpu_push_many(const struct cpu_slots *cpus, uint32_t *n,
					  void *const *objects)
{
	uint32_t k;

	__asm__ goto volatile(RSEQ_ENTER
		     "ldr x9, [x9]\n\t"
		     "ldr %w[k], [x9, #4]\n\t"
		     "ldr w10, [x9]\n\t"
		     "subs %w[k], %w[k], w10\n\t"
		     "b.eq %l[unmet]\n\t"
		     "cmp %w[k], %w[wanted]\n\t"
		     "csel %w[k], %w[k], %w[wanted], lo\n\t"
		     "add x11, x9, x10, lsl #3\n\t"
		     "add x11, x11, #32\n\t"
		     "mov w12, %w[k]\n\t"
		     "b 7f\n"
		     "6:\n\t"
		     "ldr x13, [%[objects], x12, lsl #3]\n\t"
		     "str x13, [x11, x12, lsl #3]\n"
		     "7:\n\t"
		     "subs w12, w12, #1\n\t"
		     "b.hs 6b\n\t"
		     "add w10, w10, %w[k]\n\t" RSEQ_PAUSE
		     "str w10, [x9]\n" RSEQ_LEAVE
		     : [k] "=&r"(k)
		     : [wanted] "r"(*n), [objects] "r"(objects), RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : unmet, away, abort);
	*n = k;
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/* swap: main = spare (what was main becomes the spare: it stays in pair[]); never unmet */
static inline enum slot_did cpu_swap(const struct cpu_slots *cpus)
{
	__asm__ goto volatile(RSEQ_ENTER RSEQ_UNLESS_STOPPED RSEQ_SPARE RSEQ_PAUSE
		     "str x10, [x9]\n" RSEQ_LEAVE
		     :
		     : RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : away, abort);
	return SLOT_DID;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/* swap if filled: the same, unmet if spare->size == 0 */
static inline enum slot_did cpu_swap_filled(const struct cpu_slots *cpus)
{
	__asm__ goto volatile(RSEQ_ENTER RSEQ_UNLESS_STOPPED RSEQ_SPARE
		     "ldr w12, [x10]\n\t"
		     "cbz w12, %l[unmet]\n\t" RSEQ_PAUSE
		     "str x10, [x9]\n" RSEQ_LEAVE
		     :
		     : RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : unmet, away, abort);
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/* swap if roomy: the same, unmet if spare->size == spare->capacity */
static inline enum slot_did cpu_swap_roomy(const struct cpu_slots *cpus)
{
	__asm__ goto volatile(RSEQ_ENTER RSEQ_UNLESS_STOPPED RSEQ_SPARE
		     "ldr w12, [x10]\n\t"
		     "ldr w13, [x10, #4]\n\t"
		     "cmp w12, w13\n\t"
		     "b.eq %l[unmet]\n\t" RSEQ_PAUSE
		     "str x10, [x9]\n" RSEQ_LEAVE
		     :
		     : RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : unmet, away, abort);
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/* install spare: old = spare; spare = sheaf; never unmet */
static inline enum slot_did cpu_install_spare(const struct cpu_slots *cpus, struct sheaf *sheaf,
					      struct sheaf **was)
{
	struct sheaf *old;

	__asm__ goto volatile(RSEQ_ENTER RSEQ_UNLESS_STOPPED RSEQ_SPARE
		     "mov %[old], x10\n\t" RSEQ_PAUSE
		     "str %[sheaf], [x11, #16]\n" RSEQ_LEAVE
		     : [old] "=&r"(old)
		     : [sheaf] "r"(sheaf), RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : away, abort);
	*was = old;
	return SLOT_DID;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/* install spare if empty: the same, unmet if spare->size != 0 */
static inline enum slot_did cpu_install_spare_if_empty(const struct cpu_slots *cpus,
						       struct sheaf *sheaf, struct sheaf **was)
{
	struct sheaf *old;

	__asm__ goto volatile(RSEQ_ENTER RSEQ_UNLESS_STOPPED RSEQ_SPARE
		     "ldr w12, [x10]\n\t"
		     "cbnz w12, %l[unmet]\n\t"
		     "mov %[old], x10\n\t" RSEQ_PAUSE
		     "str %[sheaf], [x11, #16]\n" RSEQ_LEAVE
		     : [old] "=&r"(old)
		     : [sheaf] "r"(sheaf), RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : unmet, away, abort);
	*was = old;
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/* install rcu: old = rcu; rcu = sheaf (release: partner has_part() in slot_remote.c); never unmet */
static inline enum slot_did cpu_install_rcu(const struct cpu_slots *cpus, struct sheaf *sheaf,
					    struct sheaf **was)
{
	struct sheaf *old;

	__asm__ goto volatile(RSEQ_ENTER RSEQ_UNLESS_STOPPED
		     "ldr %[old], [x9, #8]\n\t"
		     "add x9, x9, #8\n\t" RSEQ_PAUSE
		     "stlr %[sheaf], [x9]\n" RSEQ_LEAVE
		     : [old] "=&r"(old)
		     : [sheaf] "r"(sheaf), RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : away, abort);
	*was = old;
	return SLOT_DID;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

/* install rcu if full: the same, unmet if rcu->size != rcu->capacity */
static inline enum slot_did cpu_install_rcu_if_full(const struct cpu_slots *cpus,
						    struct sheaf *sheaf, struct sheaf **was)
{
	struct sheaf *old;

	__asm__ goto volatile(RSEQ_ENTER RSEQ_UNLESS_STOPPED
		     "ldr %[old], [x9, #8]\n\t"
		     "ldr w10, [%[old]]\n\t"
		     "ldr w11, [%[old], #4]\n\t"
		     "cmp w10, w11\n\t"
		     "b.ne %l[unmet]\n\t" RSEQ_PAUSE
		     "str %[sheaf], [x9, #8]\n" RSEQ_LEAVE
		     : [old] "=&r"(old)
		     : [sheaf] "r"(sheaf), RSEQ_IN(cpus)
		     : RSEQ_CLOBBER
		     : unmet, away, abort);
	*was = old;
	return SLOT_DID;
unmet:
	return SLOT_UNMET;
away:
	return SLOT_AWAY;
abort:
	return SLOT_ABORTED;
}

#endif
