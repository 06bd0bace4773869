/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/* Stands in for the sequences where there are none: no cache has per-CPU slots here. */
#ifndef RSEQ_NONE_H
#define RSEQ_NONE_H

#define RSEQ_NONE(name, ...)                                                                       \
	static inline enum slot_did name(__VA_ARGS__)                                              \
	{                                                                                          \
		(void)cpus;                                                                        \
		return SLOT_AWAY;                                                                  \
	}

RSEQ_NONE(cpu_pop, const struct cpu_slots *cpus, __attribute__((unused)) void **popped)
RSEQ_NONE(cpu_push, const struct cpu_slots *cpus, __attribute__((unused)) void *object)
RSEQ_NONE(cpu_push_rcu, const struct cpu_slots *cpus, __attribute__((unused)) void *object)
RSEQ_NONE(cpu_pop_many, const struct cpu_slots *cpus, __attribute__((unused)) uint32_t *n,
	  __attribute__((unused)) void **objects)
RSEQ_NONE(cpu_push_many, const struct cpu_slots *cpus, __attribute__((unused)) uint32_t *n,
	  __attribute__((unused)) void *const *objects)
RSEQ_NONE(cpu_swap, const struct cpu_slots *cpus)
RSEQ_NONE(cpu_swap_filled, const struct cpu_slots *cpus)
RSEQ_NONE(cpu_swap_roomy, const struct cpu_slots *cpus)
RSEQ_NONE(cpu_install_spare, const struct cpu_slots *cpus,
	  __attribute__((unused)) struct sheaf *sheaf, __attribute__((unused)) struct sheaf **was)
RSEQ_NONE(cpu_install_spare_if_empty, const struct cpu_slots *cpus,
	  __attribute__((unused)) struct sheaf *sheaf, __attribute__((unused)) struct sheaf **was)
RSEQ_NONE(cpu_install_rcu, const struct cpu_slots *cpus,
	  __attribute__((unused)) struct sheaf *sheaf, __attribute__((unused)) struct sheaf **was)
RSEQ_NONE(cpu_install_rcu_if_full, const struct cpu_slots *cpus,
	  __attribute__((unused)) struct sheaf *sheaf, __attribute__((unused)) struct sheaf **was)

#endif
