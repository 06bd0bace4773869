/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * The restartable sequences of a per-CPU slot, x86-64. What they do and may assume is in
 * slot_cpu.h; offsets are proven there.
 *
 * Each runs from label 1 to label 2. The instruction before 2 is the only one that writes
 * anything that counts: the committing store. If the thread is preempted, moved or
 * gets a signal before it, the kernel continues at label 4, and nothing has happened.
 * Ways out, for all of them:
 *
 *	(falls through)  committed
 *	unmet            what the sequence is conditional on is not so
 *	away             no slot for this CPU, or a remote party has stopped it
 *	abort            interrupted; nothing happened
 *
 * Registers: rax the slot, later a sheaf; rcx, rdx, r8 scratch.
 */
#ifndef RSEQ_X86_64_H
#define RSEQ_X86_64_H

/* Tells the kernel the sequence, and finds this CPU's slot: rax. */
#define RSEQ_ENTER                                                                                 \
	".pushsection __rseq_cs, \"aw\"\n\t"                                                        \
	".balign 32\n"                                                                             \
	"3:\n\t"                                                                                   \
	".long 0, 0\n\t"                                                                           \
	".quad 1f, 2f - 1f, 4f\n\t"                                                                \
	".popsection\n\t" RSEQ_ANNOUNCE                                                            \
	"1:\n\t"                                                                                   \
	"movl %%fs:4(%[area]), %%eax\n\t"                                                          \
	"cmpl %[n], %%eax\n\t"                                                                     \
	"jae %l[away]\n\t"                                                                         \
	"shlq $7, %%rax\n\t"                                                                       \
	"addq %[slots], %%rax\n\t"

/* The signature must stand right before the way out. */
#define RSEQ_LEAVE                                                                                 \
	"2:\n\t"                                                                                   \
	".pushsection .text.unlikely.rseq, \"ax\"\n\t"                                             \
	".byte 0x0f, 0xb9, 0x3d\n\t"                                                               \
	".long 0x53053053\n"                                                                       \
	"4:\n\t"                                                                                   \
	"jmp %l[abort]\n\t"                                                                        \
	".popsection\n\t"

#ifndef RSEQ_MUTANT_UNANNOUNCED
#define RSEQ_ANNOUNCE                                                                              \
	"leaq 3b(%%rip), %%rax\n\t"                                                                \
	"movq %%rax, %%fs:8(%[area])\n\t"
#else
#define RSEQ_ANNOUNCE /* for a test that must fail: nobody will interrupt us */
#endif

/* A pause in the middle, for tests; the count is a memory operand, zero in between. */
#ifdef RSEQ_WIDEN
#define RSEQ_PAUSE                                                                                 \
	"movl %[pause], %%r9d\n\t"                                                                 \
	"5: subl $1, %%r9d\n\t"                                                                    \
	"jnc 5b\n\t"
#define RSEQ_PAUSE_INPUT , [pause] "m"(rseq_pause)
#define RSEQ_PAUSE_CLOBBER , "r9"
#else
#define RSEQ_PAUSE
#define RSEQ_PAUSE_INPUT
#define RSEQ_PAUSE_CLOBBER
#endif

#define RSEQ_IN(cpus)                                                                              \
	[area] "r"(rseq_offset), [n] "m"((cpus)->n), [slots] "m"((cpus)->slots) RSEQ_PAUSE_INPUT
#define RSEQ_CLOBBER "rax", "rcx", "rdx", "r8", "cc", "memory" RSEQ_PAUSE_CLOBBER

/* away unless the slot's stop is 0 */
#define RSEQ_UNLESS_STOPPED                                                                        \
	"cmpl $0, 32(%%rax)\n\t"                                                                   \
	"jne %l[away]\n\t"

/* rdx = number of the place in pair[] that is not main; rcx = the sheaf there */
#define RSEQ_SPARE                                                                                 \
	"movq (%%rax), %%rcx\n\t"                                                                  \
	"xorl %%edx, %%edx\n\t"                                                                    \
	"cmpq %%rcx, 16(%%rax)\n\t"                                                                \
	"sete %%dl\n\t"                                                                            \
	"movq 16(%%rax,%%rdx,8), %%rcx\n\t"

/*
 * pop: object = main->objects[main->size - 1]; main->size--
 *	unmet if main->size == 0
 */
static inline enum slot_did cpu_pop(const struct cpu_slots *cpus, void **popped)
{
	void *object;

	__asm__ goto volatile(RSEQ_ENTER
		     "movq (%%rax), %%rax\n\t"
		     "movl (%%rax), %%ecx\n\t"
		     "subl $1, %%ecx\n\t"
		     "jc %l[unmet]\n\t"
		     "movq 32(%%rax,%%rcx,8), %[object]\n\t" RSEQ_PAUSE
		     "movl %%ecx, (%%rax)\n" RSEQ_LEAVE
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
		     "movq " sheaf "(%%rax), %%rax\n\t"                                            \
		     "movl (%%rax), %%ecx\n\t"                                                     \
		     "cmpl 4(%%rax), %%ecx\n\t"                                                    \
		     "je %l[unmet]\n\t"                                                            \
		     "movq %[object], 32(%%rax,%%rcx,8)\n\t"                                       \
		     "addl $1, %%ecx\n\t" RSEQ_PAUSE                                               \
		     "movl %%ecx, (%%rax)\n" RSEQ_LEAVE                                            \
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
		     "movq (%%rax), %%rax\n\t"
		     "movl (%%rax), %%ecx\n\t"
		     "testl %%ecx, %%ecx\n\t"
		     "jz %l[unmet]\n\t"
		     "movl %[wanted], %[k]\n\t"
		     "cmpl %%ecx, %[k]\n\t"
		     "cmoval %%ecx, %[k]\n\t"
		     "subl %[k], %%ecx\n\t"
		     "leaq 32(%%rax,%%rcx,8), %%rdx\n\t"
		     "movl %[k], %%r8d\n\t"
		     "jmp 7f\n"
		     "6:\n\t"
		     "movq (%%rdx,%%r8,8), %%r10\n\t"
		     "movq %%r10, (%[objects],%%r8,8)\n"
		     "7:\n\t"
		     "subl $1, %%r8d\n\t"
		     "jnc 6b\n\t" RSEQ_PAUSE
		     "movl %%ecx, (%%rax)\n" RSEQ_LEAVE
		     : [k] "=&r"(k)
		     : [wanted] "m"(*n), [objects] "r"(objects), RSEQ_IN(cpus)
		     : "r10", RSEQ_CLOBBER
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
		     "movq (%%rax), %%rax\n\t"
		     "movl 4(%%rax), %[k]\n\t"
		     "movl (%%rax), %%ecx\n\t"
		     "subl %%ecx, %[k]\n\t"
		     "jz %l[unmet]\n\t"
		     "cmpl %[wanted], %[k]\n\t"
		     "cmoval %[wanted], %[k]\n\t"
		     "leaq 32(%%rax,%%rcx,8), %%rdx\n\t"
		     "movl %[k], %%r8d\n\t"
		     "jmp 7f\n"
		     "6:\n\t"
		     "movq (%[objects],%%r8,8), %%r10\n\t"
		     "movq %%r10, (%%rdx,%%r8,8)\n"
		     "7:\n\t"
		     "subl $1, %%r8d\n\t"
		     "jnc 6b\n\t"
		     "addl %[k], %%ecx\n\t" RSEQ_PAUSE
		     "movl %%ecx, (%%rax)\n" RSEQ_LEAVE
		     : [k] "=&r"(k)
		     : [wanted] "m"(*n), [objects] "r"(objects), RSEQ_IN(cpus)
		     : "r10", RSEQ_CLOBBER
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
		     "movq %%rcx, (%%rax)\n" RSEQ_LEAVE
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
		     "cmpl $0, (%%rcx)\n\t"
		     "je %l[unmet]\n\t" RSEQ_PAUSE
		     "movq %%rcx, (%%rax)\n" RSEQ_LEAVE
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
		     "movl (%%rcx), %%edx\n\t"
		     "cmpl 4(%%rcx), %%edx\n\t"
		     "je %l[unmet]\n\t" RSEQ_PAUSE
		     "movq %%rcx, (%%rax)\n" RSEQ_LEAVE
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
		     "movq %%rcx, %[old]\n\t" RSEQ_PAUSE
		     "movq %[sheaf], 16(%%rax,%%rdx,8)\n" RSEQ_LEAVE
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
		     "cmpl $0, (%%rcx)\n\t"
		     "jne %l[unmet]\n\t"
		     "movq %%rcx, %[old]\n\t" RSEQ_PAUSE
		     "movq %[sheaf], 16(%%rax,%%rdx,8)\n" RSEQ_LEAVE
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

/* install rcu: old = rcu; rcu = sheaf; never unmet */
static inline enum slot_did cpu_install_rcu(const struct cpu_slots *cpus, struct sheaf *sheaf,
					    struct sheaf **was)
{
	struct sheaf *old;

	__asm__ goto volatile(RSEQ_ENTER RSEQ_UNLESS_STOPPED
		     "movq 8(%%rax), %[old]\n\t" RSEQ_PAUSE
		     "movq %[sheaf], 8(%%rax)\n" RSEQ_LEAVE
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
		     "movq 8(%%rax), %[old]\n\t"
		     "movl (%[old]), %%ecx\n\t"
		     "cmpl 4(%[old]), %%ecx\n\t"
		     "jne %l[unmet]\n\t" RSEQ_PAUSE
		     "movq %[sheaf], 8(%%rax)\n" RSEQ_LEAVE
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
