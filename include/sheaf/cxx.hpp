/* SPDX-License-Identifier: MIT */
/* SPDX-FileCopyrightText: the libsheaf authors */

/**
 * @file sheaf/cxx.hpp
 * Caches for C++17: owners that clean up, a std::pmr::memory_resource, and an allocator for
 * standard containers. Everything is inline; the library itself has no C++ in it, and no other
 * header includes this one. The namespace is libsheaf, since the name sheaf is a struct's.
 *
 * A resource and an allocator serve requests that fit an object of their cache, in size and
 * alignment, from the cache; a smaller request takes a whole object all the same. Requests that do
 * not fit go on: those of a resource to its upstream resource, those of an allocator to operator
 * new. So a container of nodes wants objects as large as its nodes (element and two or
 * three pointers), and its arrays, if it has any, are somebody else's.
 *
 * Which operations may run at the same time: on one cache, and on resources and allocators over
 * it, all with all, except making, moving and destroying the object itself. With a resource that
 * holds if it holds for its upstream. A prefilled sheaf is for one thread at a time. What
 * a container does with its allocator has no part in this: a container is used by one writer.
 */
#ifndef SHEAF_CXX_HPP
#define SHEAF_CXX_HPP

#if !defined(__cpp_exceptions) || !defined(__cpp_rtti)
#error "<sheaf/cxx.hpp> needs exceptions and RTTI, as memory resources do"
#endif

#include <sheaf/cache.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory_resource>
#include <new>
#include <system_error>
#include <type_traits>
#include <utility>

namespace libsheaf
{

/** A cache and its end. Can be moved; what was moved from may only be destroyed or assigned to. */
class cache
{
      public:
	/**
	 * Make a cache.
	 *
	 * @param attr as for sheaf_cache_create(), but that its member size may be 0
	 *
	 * Context, Ordering, Progress: as sheaf_cache_create().
	 * Throws: std::bad_alloc; std::system_error with the code of sheaf_cache_create().
	 */
	explicit cache(sheaf_cache_attr attr)
	{
		int err;

		if (!attr.size)
			attr.size = sizeof(attr);
		err = sheaf_cache_create(&cache_, &attr);
		if (err == -ENOMEM)
			throw std::bad_alloc();
		if (err)
			throw std::system_error(-err, std::generic_category(),
						"sheaf_cache_create");
		size_ = attr.object_size;
		align_ = attr.object_align;
		if (!align_) /* the default, see there */
			align_ = size_ < 16 ? 8 : 16;
	}

	/**
	 * Make a cache with default attributes.
	 *
	 * @param object_size, object_align as in struct sheaf_cache_attr
	 * @param gp grace-period source, or NULL
	 *
	 * Context, Ordering, Progress, Throws: as the other one.
	 */
	explicit cache(std::size_t object_size, std::size_t object_align = 0,
		       sheaf_gp *gp = nullptr)
	    : cache(plain(object_size, object_align, gp))
	{
	}

	cache(cache &&other) noexcept
	    : cache_(std::exchange(other.cache_, nullptr)), size_(other.size_), align_(other.align_)
	{
	}

	/** Ends what it was before, as the destructor does. */
	cache &operator=(cache &&other) noexcept
	{
		cache old(std::move(*this));

		cache_ = std::exchange(other.cache_, nullptr);
		size_ = other.size_;
		align_ = other.align_;
		return *this;
	}

	/**
	 * End the cache. Objects that are still allocated are a bug of the program, and so is a
	 * source that cannot be waited for (sheaf_gp_wait()): std::terminate() is called, as for a joinable
	 * std::thread. destroy() tells instead.
	 *
	 * Context, Ordering, Progress: as sheaf_cache_destroy().
	 */
	~cache()
	{
		if (cache_ && sheaf_cache_destroy(cache_, nullptr))
			std::terminate();
	}

	/**
	 * End the cache early.
	 *
	 * @param live as for sheaf_cache_destroy()
	 *
	 * Context, Ordering, Progress: as sheaf_cache_destroy().
	 * Return: as sheaf_cache_destroy(); on failure the cache is usable as before.
	 */
	int destroy(std::size_t *live = nullptr) noexcept
	{
		const int err = cache_ ? sheaf_cache_destroy(cache_, live) : 0;

		if (!err)
			cache_ = nullptr;
		return err;
	}

	/**
	 * The cache for the functions of <sheaf/cache.h>.
	 *
	 * Context: any. Ordering: none. Progress: wait-free.
	 * Return: the handle; valid until the cache ends, whoever owns it then.
	 */
	sheaf_cache *get() const noexcept
	{
		return cache_;
	}

	/**
	 * Does a request fit an object?
	 *
	 * @param bytes, align of the request
	 *
	 * Context: any. Ordering: none. Progress: wait-free.
	 * Return: true if it does.
	 */
	bool fits(std::size_t bytes, std::size_t align) const noexcept
	{
		return bytes <= size_ && align <= align_;
	}

	/**
	 * Allocate one object.
	 *
	 * @param flags as for sheaf_cache_alloc()
	 *
	 * Context, Ordering, Progress: as sheaf_cache_alloc().
	 * Return: an object with undefined contents, the caller's until it is freed.
	 * Throws: std::bad_alloc where sheaf_cache_alloc() returns NULL.
	 */
	void *allocate(unsigned flags = 0)
	{
		void *object = sheaf_cache_alloc(cache_, flags);

		if (!object)
			throw std::bad_alloc();
		return object;
	}

	/** As sheaf_cache_free(). Context, Ordering, Progress: as there. */
	void deallocate(void *object) noexcept
	{
		sheaf_cache_free(cache_, object);
	}

	/** As sheaf_cache_free_rcu(). Context, Ordering, Progress: as there. */
	void retire(void *object) noexcept
	{
		sheaf_cache_free_rcu(cache_, object);
	}

      private:
	static sheaf_cache_attr plain(std::size_t object_size, std::size_t object_align,
				      sheaf_gp *gp) noexcept
	{
		sheaf_cache_attr attr = {};

		attr.object_size = object_size;
		attr.object_align = object_align;
		attr.gp = gp;
		return attr;
	}

	sheaf_cache *cache_ = nullptr;
	std::size_t size_ = 0;
	std::size_t align_ = 0;
};

/** A prefilled sheaf and its return. Can be moved; what was moved from has no objects. */
class prefilled
{
      public:
	/**
	 * Borrow a sheaf.
	 *
	 * @param from the cache; must outlive the sheaf
	 * @param n, flags as for sheaf_cache_prefill()
	 *
	 * Context, Ordering, Progress: as sheaf_cache_prefill().
	 * Throws: std::bad_alloc where sheaf_cache_prefill() returns NULL.
	 */
	prefilled(cache &from, std::uint32_t n, unsigned flags = 0)
	    : cache_(from.get()), sheaf_(sheaf_cache_prefill(cache_, n, flags))
	{
		if (!sheaf_)
			throw std::bad_alloc();
	}

	prefilled(prefilled &&other) noexcept
	    : cache_(other.cache_), sheaf_(std::exchange(other.sheaf_, nullptr))
	{
	}

	/** Returns what it was before. */
	prefilled &operator=(prefilled &&other) noexcept
	{
		prefilled old(std::move(*this));

		cache_ = other.cache_;
		sheaf_ = std::exchange(other.sheaf_, nullptr);
		return *this;
	}

	/** Return the sheaf. Context, Ordering, Progress: as sheaf_cache_return(). */
	~prefilled()
	{
		sheaf_cache_return(cache_, sheaf_);
	}

	/**
	 * Allocate from the sheaf; see sheaf_cache_alloc_from().
	 *
	 * Context, Ordering, Progress: as there.
	 * Return: an object of the cache; NULL when the sheaf is used up or was moved from.
	 */
	void *allocate() noexcept
	{
		return sheaf_ ? sheaf_cache_alloc_from(cache_, sheaf_) : nullptr;
	}

	/**
	 * Top up, so that @p n more allocations cannot fail.
	 *
	 * @param n, flags as for sheaf_cache_refill(); not of one that was moved from
	 *
	 * Context, Ordering, Progress: as sheaf_cache_refill().
	 * Throws: std::bad_alloc (the sheaf is valid, lent for what was asked before), also if
	 *	@p n is too large.
	 */
	void refill(std::uint32_t n, unsigned flags = 0)
	{
		if (sheaf_cache_refill(cache_, &sheaf_, n, flags))
			throw std::bad_alloc();
	}

      private:
	sheaf_cache *cache_;
	struct sheaf *sheaf_;
};

/**
 * A cache as the memory resource of containers in std::pmr. Neither owns the cache nor the
 * upstream resource; both must outlive it and all that was allocated by it.
 */
class resource : public std::pmr::memory_resource
{
      public:
	/**
	 * @param from where requests that fit come from; stays where it is
	 * @param upstream where the others go; not NULL
	 *
	 * Context: any. Ordering: none. Progress: wait-free.
	 */
	explicit resource(cache &from, std::pmr::memory_resource *upstream =
					       std::pmr::get_default_resource()) noexcept
	    : cache_(&from), upstream_(upstream)
	{
	}

	resource(const resource &) = delete;
	resource &operator=(const resource &) = delete;
	~resource() override = default;

	/**
	 * Where requests go that do not fit.
	 *
	 * Context: any. Ordering: none. Progress: wait-free. Return: as given; valid as long.
	 */
	std::pmr::memory_resource *upstream_resource() const noexcept
	{
		return upstream_;
	}

      protected:
	/**
	 * Called by allocate(). What fits and cannot be had is not looked for upstream: a budget is
	 * a budget.
	 *
	 * Context, Ordering, Progress: as sheaf_cache_alloc(), or as upstream.
	 * Throws: std::bad_alloc; what upstream throws.
	 */
	void *do_allocate(std::size_t bytes, std::size_t align) override
	{
		return cache_->fits(bytes, align) ? cache_->allocate()
						  : upstream_->allocate(bytes, align);
	}

	/** Called by deallocate(). Context, Ordering, Progress: as sheaf_cache_free(), or upstream. */
	void do_deallocate(void *memory, std::size_t bytes, std::size_t align) override
	{
		if (cache_->fits(bytes, align))
			cache_->deallocate(memory);
		else
			upstream_->deallocate(memory, bytes, align);
	}

	/** Called by ==: may one free what the other one has allocated? Same cache, equal upstream. */
	bool do_is_equal(const std::pmr::memory_resource &other) const noexcept override
	{
		const resource *same = dynamic_cast<const resource *>(&other);

		return same && same->cache_ == cache_ && *same->upstream_ == *upstream_;
	}

      private:
	cache *cache_;
	std::pmr::memory_resource *upstream_;
};

/**
 * A cache as the allocator of standard containers. Copies are equal, whatever their type: they
 * name the same cache, which none of them owns. It must stay where it is and outlive the containers.
 *
 * A container that is copied from keeps its allocator to itself when it is assigned to another one;
 * moves and swaps take the allocator along, and so never copy elements.
 */
template <class T> class allocator
{
      public:
	using value_type = T;
	using propagate_on_container_copy_assignment = std::false_type;
	using propagate_on_container_move_assignment = std::true_type;
	using propagate_on_container_swap = std::true_type;
	using is_always_equal = std::false_type;

	/**
	 * @param from where requests that fit come from
	 *
	 * Context: any. Ordering: none. Progress: wait-free.
	 */
	allocator(cache &from) noexcept : cache_(&from)
	{
	}

	/** For another type, as containers need for their nodes. */
	template <class U> allocator(const allocator<U> &other) noexcept : cache_(other.from())
	{
	}

	/**
	 * Memory for objects in a row.
	 *
	 * @param n of them
	 *
	 * Context, Ordering, Progress: as sheaf_cache_alloc(), or as operator new.
	 * Return: memory for @p n objects of type T; deallocate() it with the same @p n.
	 * Throws: std::bad_array_new_length if there cannot be so many; std::bad_alloc.
	 */
	[[nodiscard]] T *allocate(std::size_t n)
	{
		void *memory;

		if (n > std::numeric_limits<std::size_t>::max() / sizeof(T))
			throw std::bad_array_new_length();
		if (cache_->fits(n * sizeof(T), alignof(T)))
			memory = cache_->allocate();
		else if constexpr (alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
			memory = ::operator new(n * sizeof(T), std::align_val_t(alignof(T)));
		else
			memory = ::operator new(n * sizeof(T));
		return static_cast<T *>(memory);
	}

	/** Context, Ordering, Progress: as sheaf_cache_free(), or as operator delete. */
	void deallocate(T *memory, std::size_t n) noexcept
	{
		if (cache_->fits(n * sizeof(T), alignof(T)))
			cache_->deallocate(memory);
		else if constexpr (alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__)
			::operator delete(memory, std::align_val_t(alignof(T)));
		else
			::operator delete(memory);
	}

	/** The cache, as given. Context: any. Ordering: none. Progress: wait-free. */
	cache *from() const noexcept
	{
		return cache_;
	}

      private:
	cache *cache_;
};

/** May one free what the other one has allocated? */
template <class T, class U> bool operator==(const allocator<T> &a, const allocator<U> &b) noexcept
{
	return a.from() == b.from();
}

template <class T, class U> bool operator!=(const allocator<T> &a, const allocator<U> &b) noexcept
{
	return a.from() != b.from();
}

} /* namespace libsheaf */

#endif
