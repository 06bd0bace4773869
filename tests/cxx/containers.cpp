/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/*
 * <sheaf/cxx.hpp>: standard containers over caches hold what the same containers of std hold, their
 * nodes are the cache's and the rest is not, everything is back at the end, and when a
 * budget is used up or a constructor throws, nothing is lost. The named requirements of an
 * allocator are checked by the compiler.
 */
#include <sheaf/cxx.hpp>

#include <algorithm>
#include <array>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

/* Last: Check has a macro fail(). */
extern "C" {
#include "common.h"
}

namespace
{

constexpr std::size_t NODE_BYTES = 64;

/* The named requirements. */
using traits = std::allocator_traits<libsheaf::allocator<int>>;
static_assert(std::is_same_v<traits::rebind_alloc<long>, libsheaf::allocator<long>>);
static_assert(std::is_same_v<traits::value_type, int>);
static_assert(std::is_same_v<traits::pointer, int *>);
static_assert(std::is_same_v<traits::size_type, std::size_t>);
static_assert(!traits::is_always_equal::value);
static_assert(!traits::propagate_on_container_copy_assignment::value);
static_assert(traits::propagate_on_container_move_assignment::value);
static_assert(traits::propagate_on_container_swap::value);
static_assert(std::is_nothrow_copy_constructible_v<libsheaf::allocator<int>>);
static_assert(std::is_nothrow_copy_assignable_v<libsheaf::allocator<int>>);
static_assert(std::is_nothrow_constructible_v<libsheaf::allocator<int>,
					      const libsheaf::allocator<long> &>);
static_assert(!std::is_default_constructible_v<libsheaf::allocator<int>>);
/* Owners move, and do not copy; a resource does neither. */
static_assert(std::is_nothrow_move_constructible_v<libsheaf::cache>);
static_assert(std::is_nothrow_move_assignable_v<libsheaf::cache>);
static_assert(!std::is_copy_constructible_v<libsheaf::cache>);
static_assert(std::is_nothrow_move_constructible_v<libsheaf::prefilled>);
static_assert(!std::is_copy_assignable_v<libsheaf::prefilled>);
static_assert(!std::is_copy_constructible_v<libsheaf::resource>);
static_assert(!std::is_move_constructible_v<libsheaf::resource>);
static_assert(std::is_base_of_v<std::pmr::memory_resource, libsheaf::resource>);

template <class K, class V>
using map = std::map<K, V, std::less<K>, libsheaf::allocator<std::pair<const K, V>>>;
template <class K, class V>
using hash_map = std::unordered_map<K, V, std::hash<K>, std::equal_to<K>,
				    libsheaf::allocator<std::pair<const K, V>>>;
template <class T> using list = std::list<T, libsheaf::allocator<T>>;
template <class T> using vector = std::vector<T, libsheaf::allocator<T>>;

/* Objects that are with the program; what debug mode and sheaves hold is not. */
std::size_t live(libsheaf::cache &cache)
{
	struct sheaf_cache_stats stats;

	sheaf_cache_shrink(cache.get());
	sheaf_cache_stats(cache.get(), &stats, sizeof(stats));
	return stats.backend_allocated - stats.backend_freed;
}

/* Upstream: counts what it is asked for, and what of that is not back. */
class counter : public std::pmr::memory_resource
{
      public:
	std::size_t asked = 0, least = SIZE_MAX, out = 0;

      private:
	void *do_allocate(std::size_t bytes, std::size_t align) override
	{
		asked++;
		out += bytes;
		least = std::min(least, bytes);
		return std::pmr::new_delete_resource()->allocate(bytes, align);
	}

	void do_deallocate(void *memory, std::size_t bytes, std::size_t align) override
	{
		out -= bytes;
		std::pmr::new_delete_resource()->deallocate(memory, bytes, align);
	}

	bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override
	{
		return this == &other;
	}
};

/* The same random steps on a container and on its model. */
template <class Map, class Model> void compare(Map &mine, Model &model, uint64_t *random)
{
	const unsigned steps = test_rounds(20000);

	for (unsigned i = 0; i < steps; i++) {
		const int key = static_cast<int>(test_below(random, 500));

		if (test_below(random, 3)) {
			mine[key] = static_cast<int>(i);
			model[key] = static_cast<int>(i);
		} else {
			ck_assert_uint_eq(mine.erase(key), model.erase(key));
		}
		ck_assert_uint_eq(mine.size(), model.size());
	}
	for (const auto &pair : model) {
		const auto found = mine.find(pair.first);

		ck_assert(found != mine.end() && found->second == pair.second);
	}
}

} /* namespace */

START_TEST(model_maps)
{
	uint64_t random = test_seed();
	libsheaf::cache nodes(NODE_BYTES);

	{
		map<int, int> mine(nodes);
		std::map<int, int> model;

		compare(mine, model, &random);
		ck_assert(std::equal(mine.begin(), mine.end(), model.begin(), model.end()));
		ck_assert_uint_eq(live(nodes), mine.size());
	}
	{
		hash_map<int, int> mine(0, nodes);
		std::unordered_map<int, int> model;

		compare(mine, model, &random);
		/* The bucket array does not fit; small ones did. */
		ck_assert_uint_eq(live(nodes), mine.size());
	}
	ck_assert_uint_eq(live(nodes), 0);
}
END_TEST

START_TEST(model_pmr)
{
	uint64_t random = test_seed() + 1;
	libsheaf::cache nodes(NODE_BYTES);
	counter upstream;
	libsheaf::resource resource(nodes, &upstream);

	ck_assert_ptr_eq(resource.upstream_resource(), &upstream);
	{
		std::pmr::map<int, int> mine(&resource);
		std::map<int, int> model;

		compare(mine, model, &random);
		ck_assert_uint_eq(live(nodes), mine.size());
		ck_assert_uint_eq(upstream.asked, 0);
	}
	{
		std::pmr::unordered_map<int, int> mine(&resource);
		std::unordered_map<int, int> model;

		compare(mine, model, &random);
		ck_assert_uint_eq(live(nodes), mine.size());
		ck_assert_uint_gt(upstream.asked, 0);
	}
	{
		/* The list's nodes fit, long strings in them do not; both ask the resource. */
		std::pmr::list<std::pmr::string> lines(&resource);

		lines.emplace_back("short");
		lines.emplace_back(200, 'x');
		ck_assert_uint_eq(live(nodes), 2);
		ck_assert_uint_ge(upstream.out, 200);
		ck_assert(lines.back().get_allocator().resource() == &resource);
	}
	ck_assert_uint_gt(upstream.least, NODE_BYTES);
	ck_assert_uint_eq(upstream.out, 0);
	ck_assert_uint_eq(live(nodes), 0);
}
END_TEST

START_TEST(resources_are_equal)
{
	libsheaf::cache a(NODE_BYTES), b(NODE_BYTES);
	counter upstream;
	libsheaf::resource one(a, &upstream), same(a, &upstream), other(b, &upstream), plain(a);

	ck_assert(one == one);
	ck_assert(one == same);
	ck_assert(one != other);
	ck_assert(one != plain);
	ck_assert(one != *std::pmr::new_delete_resource());
	/* So what one has given the other may take. */
	same.deallocate(one.allocate(NODE_BYTES), NODE_BYTES);
	ck_assert_ptr_eq(plain.upstream_resource(), std::pmr::get_default_resource());
}
END_TEST

START_TEST(edges_of_fit)
{
	sheaf_cache_attr attr = {};

	attr.object_size = NODE_BYTES;
	attr.object_align = 32;
	libsheaf::cache nodes(attr);
	counter upstream;
	libsheaf::resource resource(nodes, &upstream);
	const std::array<std::array<std::size_t, 3>, 6> request = {{{0, 1, 1},
								    {1, 1, 1},
								    {NODE_BYTES, 32, 1},
								    {NODE_BYTES + 1, 8, 0},
								    {NODE_BYTES, 64, 0},
								    {4096, 4096, 0}}};

	for (const auto &[bytes, align, mine] : request) {
		const std::size_t before = upstream.asked;
		void *memory = resource.allocate(bytes, align);

		ck_assert_uint_eq(reinterpret_cast<uintptr_t>(memory) % align, 0);
		ck_assert_uint_eq(live(nodes), mine);
		ck_assert_uint_eq(upstream.asked - before, 1 - mine);
		resource.deallocate(memory, bytes, align);
		ck_assert_uint_eq(live(nodes), 0);
	}
	ck_assert_uint_eq(upstream.out, 0);

	/* Defaults as sheaf_cache_attr has them. */
	libsheaf::cache tiny(12), small(16);
	ck_assert(tiny.fits(12, 8) && !tiny.fits(12, 16) && !tiny.fits(13, 1));
	ck_assert(small.fits(16, 16) && !small.fits(16, 32));
}
END_TEST

namespace
{
struct alignas(128) wide {
	char byte[128];
};
} /* namespace */

START_TEST(alignment)
{
	libsheaf::cache exact(sizeof(wide), alignof(wide)), narrow(sizeof(wide));
	libsheaf::allocator<wide> first(exact), second(narrow);
	const std::array<wide *, 3> memory = {first.allocate(1), first.allocate(3),
					      second.allocate(1)};

	for (const wide *one : memory)
		ck_assert_uint_eq(reinterpret_cast<uintptr_t>(one) % alignof(wide), 0);
	ck_assert_uint_eq(live(exact), 1);
	ck_assert_uint_eq(live(narrow), 0);
	first.deallocate(memory[0], 1);
	first.deallocate(memory[1], 3);
	second.deallocate(memory[2], 1);
}
END_TEST

START_TEST(propagation)
{
	libsheaf::cache a(NODE_BYTES), b(NODE_BYTES);

	ck_assert(libsheaf::allocator<int>(a) == libsheaf::allocator<long>(a));
	ck_assert(libsheaf::allocator<int>(a) != libsheaf::allocator<int>(b));
	{
		list<int> in_a({1, 2, 3}, a), in_b({4, 5}, b);

		/* Copies stay where they are; a new one is made where the old one is. */
		list<int> copy(in_a);
		ck_assert(copy.get_allocator() == in_a.get_allocator());
		copy = in_b;
		ck_assert(copy == in_b && copy.get_allocator() == in_a.get_allocator());
		ck_assert_uint_eq(live(a), 5);
		/* Swaps and moves take the allocator along, and elements stay where they are. */
		const int *two = &*std::next(in_a.begin());
		std::swap(in_a, in_b);
		ck_assert_ptr_eq(&*std::next(in_b.begin()), two);
		copy = std::move(in_b);
		ck_assert_ptr_eq(&*std::next(copy.begin()), two);
		ck_assert_uint_eq(live(a), 3);
		ck_assert_uint_eq(live(b), 2);
		/* Whole nodes, where allocators are equal. */
		list<int> more({7, 8}, a);
		more.splice(more.begin(), copy);
		ck_assert(more == list<int>({1, 2, 3, 7, 8}, a));
	}
	ck_assert_uint_eq(live(a) + live(b), 0);
}
END_TEST

START_TEST(out_of_budget)
{
	sheaf_cache_attr attr = {};

	attr.object_size = NODE_BYTES;
	attr.budget = 10 * NODE_BYTES;
	libsheaf::cache nodes(attr);
	libsheaf::resource resource(nodes);
	list<int> mine(nodes);
	bool thrown = false;

	try {
		for (int i = 0; i < 20; i++)
			mine.push_back(i);
	} catch (const std::bad_alloc &) {
		thrown = true;
	}
	ck_assert(thrown);
	/* What was there is there, and not one node more. */
	ck_assert_uint_eq(mine.size(), 10);
	ck_assert_int_eq(mine.back(), 9);
	ck_assert_uint_eq(live(nodes), 10);
	thrown = false;
	try {
		resource.deallocate(resource.allocate(NODE_BYTES), NODE_BYTES);
	} catch (const std::bad_alloc &) {
		thrown = true;
	}
	ck_assert(thrown); /* and did not go upstream */
	mine.pop_front();
	mine.push_back(20);
	ck_assert_int_eq(mine.back(), 20);
	thrown = false;
	try {
		libsheaf::prefilled reserve(nodes, 4);
	} catch (const std::bad_alloc &) {
		thrown = true;
	}
	ck_assert(thrown);
	mine.clear();
	libsheaf::prefilled reserve(nodes, 4);
	void *object = reserve.allocate();
	ck_assert_ptr_nonnull(object);
	nodes.deallocate(object);
}
END_TEST

START_TEST(impossible_sizes)
{
	libsheaf::cache nodes(NODE_BYTES);
	libsheaf::allocator<long> allocator(nodes);
	const volatile std::size_t most = std::numeric_limits<std::size_t>::max();
	bool thrown = false;

	try {
		allocator.deallocate(allocator.allocate(most / sizeof(long) + 1), 1);
	} catch (const std::bad_array_new_length &) {
		thrown = true;
	}
	ck_assert(thrown);
}
END_TEST

namespace
{
/* Throws when it is made for the n-th time. */
struct fragile {
	static inline int left = 0, alive = 0;

	explicit fragile(int)
	{
		if (!left--)
			throw std::runtime_error("fragile");
		alive++;
	}
	fragile(const fragile &) = delete;
	fragile &operator=(const fragile &) = delete;
	~fragile()
	{
		alive--;
	}
};
} /* namespace */

START_TEST(constructors_that_throw)
{
	libsheaf::cache nodes(NODE_BYTES);

	for (int n = 0; n < 8; n++) {
		list<fragile> mine(nodes);
		int made = 0;

		fragile::left = n;
		try {
			for (; made < 8; made++)
				mine.emplace_back(made);
		} catch (const std::runtime_error &) {
		}
		ck_assert_int_eq(made, n);
		ck_assert_uint_eq(mine.size(), static_cast<std::size_t>(n));
		ck_assert_uint_eq(live(nodes), static_cast<std::size_t>(n));
	}
	ck_assert_int_eq(fragile::alive, 0);
	ck_assert_uint_eq(live(nodes), 0);
}
END_TEST

START_TEST(owners)
{
	libsheaf::cache first(NODE_BYTES);
	sheaf_cache *handle = first.get();
	void *object = first.allocate();
	std::size_t count = 0;

	/* What is allocated stays so when the owner changes. */
	libsheaf::cache second(std::move(first));
	ck_assert_ptr_eq(second.get(), handle);
	ck_assert_ptr_null(first.get());
	ck_assert_int_eq(second.destroy(&count), -EBUSY);
	ck_assert_uint_eq(count, 1);
	libsheaf::cache third(8);
	third = std::move(second); /* ends the one of 8 bytes */
	ck_assert_ptr_eq(third.get(), handle);
	ck_assert(third.fits(NODE_BYTES, 16));
	third.deallocate(object);
	ck_assert_int_eq(third.destroy(), 0);
	ck_assert_ptr_null(third.get());
	ck_assert_int_eq(third.destroy(), 0);
}
END_TEST

START_TEST(wrong_attributes)
{
	int code = 0;

	try {
		libsheaf::cache none(0);
	} catch (const std::system_error &error) {
		code = error.code().value();
		ck_assert(error.code().category() == std::generic_category());
	}
	ck_assert_int_eq(code, EINVAL);
}
END_TEST

/* Each allocation of making a cache fails once. */
START_TEST(no_memory_for_a_cache)
{
	unsigned refused = 0;
	bool failed = true;

	for (unsigned nth = 0; failed; nth++) {
		ck_assert_uint_lt(nth, 1000);
		test_fail_nth(nth, false);
		try {
			libsheaf::cache nodes(NODE_BYTES);
		} catch (const std::bad_alloc &) {
			refused++;
		}
		failed = test_fail_end();
	}
	ck_assert_uint_gt(refused, 0);
}
END_TEST

START_TEST(prefilled_sheaves)
{
	libsheaf::cache nodes(NODE_BYTES);
	vector<void *> taken(nodes);
	{
		libsheaf::prefilled reserve(nodes, 50);

		for (int i = 0; i < 50; i++)
			taken.push_back(reserve.allocate());
		reserve.refill(20);
		libsheaf::prefilled other(std::move(reserve));
		ck_assert_ptr_null(reserve.allocate());
		for (int i = 0; i < 20; i++)
			taken.push_back(other.allocate());
		other = libsheaf::prefilled(nodes, 1);
		taken.push_back(other.allocate());
		bool thrown = false;
		try {
			other.refill((1u << 20) + 1);
		} catch (const std::bad_alloc &) {
			thrown = true;
		}
		ck_assert(thrown);
		/* Lent sheaves are not back yet, and so the cache cannot end. */
		ck_assert_int_eq(nodes.destroy(), -EBUSY);
	}
	for (void *object : taken) {
		ck_assert_ptr_nonnull(object);
		nodes.deallocate(object);
	}
	taken.clear();
	taken.shrink_to_fit();
	ck_assert_uint_eq(live(nodes), 0);
}
END_TEST

START_TEST(retired)
{
	sheaf_gp_manual source;

	sheaf_gp_manual_init(&source, 0);
	{
		libsheaf::cache nodes(NODE_BYTES, 0, &source.gp);

		nodes.retire(nodes.allocate());
		ck_assert_int_eq(nodes.destroy(), -EDEADLK);
		sheaf_gp_manual_step(&source);
		ck_assert_int_eq(nodes.destroy(), 0);
	}
}
END_TEST

extern "C" {
static void forget_object(void *)
{
	libsheaf::cache nodes(NODE_BYTES);

	nodes.allocate();
}
}

START_TEST(live_objects_terminate)
{
	ck_assert(test_dies(forget_object, nullptr, "terminate called"));
}
END_TEST

namespace
{
constexpr unsigned WORKERS = 4;
struct worker {
	libsheaf::cache *nodes;
	list<unsigned> *mine;
	unsigned rounds;
};
} /* namespace */

extern "C" {
static void *fill_list(void *arg)
{
	auto *me = static_cast<worker *>(arg);

	for (unsigned i = 0; i < me->rounds; i++) {
		me->mine->push_back(i);
		if (i % 3)
			me->mine->pop_front();
	}
	return nullptr;
}
}

/* Each fills a list of its own, all of one cache; then their nodes change hands. */
START_TEST(race_lists)
{
	libsheaf::cache nodes(NODE_BYTES);
	{
		std::vector<list<unsigned>> lists(WORKERS, list<unsigned>(nodes));
		std::array<worker, WORKERS> workers;
		const unsigned rounds = test_rounds(30000);

		for (int again = 0; again < 3; again++) {
			for (unsigned i = 0; i < WORKERS; i++)
				workers[i] = {&nodes, &lists[i], rounds};
			test_threads(WORKERS, fill_list, workers.data(), sizeof(worker));
			for (unsigned i = 0; i + 1 < WORKERS; i++)
				lists[i].swap(lists[i + 1]);
			lists[0].splice(lists[0].end(), lists[1]);
		}
		std::size_t size = 0;
		for (const auto &one : lists)
			size += one.size();
		ck_assert_uint_eq(size, 3 * WORKERS * ((rounds + 2) / 3));
		ck_assert_uint_eq(live(nodes), size);
	}
	ck_assert_uint_eq(live(nodes), 0);
}
END_TEST

int main()
{
	Suite *suite = suite_create("cxx");
	TCase *tcase = tcase_create("containers");

	for (const TTest *test :
	     {model_maps, model_pmr, resources_are_equal, edges_of_fit, alignment, propagation,
	      out_of_budget, impossible_sizes, constructors_that_throw, owners, wrong_attributes,
	      no_memory_for_a_cache, prefilled_sheaves, retired, live_objects_terminate,
	      race_lists})
		tcase_add_test(tcase, test);
	suite_add_tcase(suite, tcase);
	return test_run(suite);
}
