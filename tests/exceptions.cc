// exceptions.cc - C++ exceptions through code whose allocations are sampled, and operator new in its many shapes: prints
// what happened, the same with and without the recorder. Built by live_exceptions.sh.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

static long caught, destroyed;
static void *volatile sink;
static volatile std::size_t far_too_much = static_cast<std::size_t>(1) << 60;

struct Guard {
    std::unique_ptr<char[]> room{new char[100]};
    ~Guard() { destroyed++; }
};

// the exception itself is allocated in the middle of frames that hold blocks
__attribute__((noinline)) static void deep(int n)
{
    Guard g;
    std::string text(static_cast<std::size_t>(200 + n), 'x');
    if (n == 0)
        throw std::runtime_error("deep " + text.substr(0, 3));
    deep(n - 1);
}

static void through_frames()
{
    for (int i = 0; i < 500; i++)
        try {
            deep(20);
        } catch (const std::runtime_error &e) {
            caught += e.what()[0] == 'd';
        }
    std::printf("frames: %ld caught, %ld destroyed\n", caught, destroyed);
}

template <class F> static const char *outcome(F f)
{
    try {
        f();
        return "none";
    } catch (const std::bad_array_new_length &) {
        return "bad_array_new_length";
    } catch (const std::bad_alloc &) {
        return "bad_alloc";
    } catch (int) {
        return "int";
    } catch (...) {
        return "other";
    }
}

struct alignas(256) Wide {
    char c[512];
};

struct Own { // an operator of its own, which throws after it has allocated
    static void *operator new(std::size_t n, int how)
    {
        void *p = std::malloc(n);
        if (how) {
            std::free(p);
            throw 7;
        }
        return p;
    }
    static void operator delete(void *p, int) { std::free(p); }
    static void operator delete(void *p) { std::free(p); }
};

struct Fails {
    Fails() { throw 1; } // the block is given back by whoever called new
    char room[3000];
};

static void operators()
{
    std::printf("new too large: %s\n", outcome([] { sink = ::operator new(far_too_much); }));
    std::printf("new[] too large: %s\n", outcome([] { sink = ::operator new[](far_too_much); }));
    std::printf("aligned too large: %s\n", outcome([] { sink = ::operator new(far_too_much, std::align_val_t(512)); }));
    sink = ::operator new(far_too_much, std::nothrow);
    std::printf("nothrow too large: %d\n", sink == nullptr);
    sink = ::operator new[](far_too_much, std::align_val_t(64), std::nothrow);
    std::printf("nothrow aligned too large: %d\n", sink == nullptr);
    std::printf("negative array: %s\n", outcome([] { volatile long n = -1; delete[] new int[static_cast<std::size_t>(n)]; }));
    std::printf("constructor: %s\n", outcome([] { delete new Fails; }));
    std::printf("constructor of an array: %s\n", outcome([] { delete[] new Fails[3]; }));
    std::printf("own operator: %s %s\n", outcome([] { delete new (1) Own; }), outcome([] { delete new (0) Own; }));
    std::printf("vector too long: %s\n", outcome([] { std::vector<char> v; v.resize(far_too_much); }));
    for (int i = 0; i < 300; i++) {
        std::unique_ptr<Wide> one(new Wide);
        std::unique_ptr<Wide[]> some(new Wide[3]);
        if ((reinterpret_cast<std::size_t>(one.get()) | reinterpret_cast<std::size_t>(some.get())) & 255)
            std::printf("not aligned\n");
        int *plain = new (std::nothrow) int[10];
        ::operator delete[](plain, std::nothrow);
        void *sized = ::operator new(77);
        ::operator delete(sized, static_cast<std::size_t>(77));
    }
}

static int handled;
static void handler()
{
    if (++handled == 3)
        throw std::bad_alloc();
}

static void new_handler()
{
    std::set_new_handler(handler);
    const char *end = outcome([] { sink = ::operator new(far_too_much); });
    std::printf("new handler: %s after %d calls\n", end, handled);
    std::set_new_handler(nullptr);
}

// libc's frames lie between
static int compare_and_throw(const void *, const void *)
{
    std::string s(1000, 'y');
    throw 3;
}

static void through_libc()
{
    int n[8] = {8, 7, 6, 5, 4, 3, 2, 1};
    const char *last = "";
    for (int i = 0; i < 200; i++)
        last = outcome([&] { std::qsort(n, 8, sizeof n[0], compare_and_throw); });
    std::printf("qsort: %s\n", last);
}

static void between_threads()
{
    std::map<int, std::exception_ptr> kept;
    std::vector<std::thread> threads;
    std::vector<std::exception_ptr> of(8);
    for (std::size_t i = 0; i < of.size(); i++)
        threads.emplace_back([&of, i] {
            for (int k = 0; k < 200; k++)
                try {
                    deep(static_cast<int>(i) + 3);
                } catch (...) {
                    of[i] = std::current_exception();
                }
        });
    for (auto &t : threads)
        t.join();
    int again = 0;
    for (auto &p : of)
        try {
            std::rethrow_exception(p);
        } catch (const std::runtime_error &) {
            again++;
        }
    std::printf("threads: %d thrown again here\n", again);
}

static void nested()
{
    int depth = 0;
    try {
        try {
            deep(5);
        } catch (...) {
            std::throw_with_nested(std::logic_error("outer"));
        }
    } catch (const std::exception &e) {
        depth = 1;
        try {
            std::rethrow_if_nested(e);
        } catch (const std::exception &) {
            depth = 2;
        }
    }
    std::printf("nested: %d, in flight: %d\n", depth, std::uncaught_exceptions());
}

int main()
{
    through_frames();
    operators();
    new_handler();
    through_libc();
    between_threads();
    nested();
    std::set_terminate([] {
        std::puts("terminate");
        std::fflush(stdout);
        std::_Exit(3);
    });
    deep(2); // nobody catches it: the unwinder must find that out by itself
}
