/* A CUDA driver without a GPU: device memory is the machine's own, a stream does everything at once, and a
 * recorded graph is a list of copies. It lets the tests run the real cuda-python over real calls where no
 * driver is. The environment variable STUB_FAIL names one function that fails, STUB_STATUS its status. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int CUresult;
typedef struct { void *to; const void *from; size_t size; } Copy;
typedef struct { Copy copies[64]; int count; int capturing; } Stream;

static __thread void *stack[16];
static __thread int depth;
static int retained, live_buffers, live_pinned;
static char context[1];

static CUresult fails(const char *name) {
    const char *wanted = getenv("STUB_FAIL");
    return wanted && strcmp(wanted, name) == 0 ? atoi(getenv("STUB_STATUS")) : 0;
}
#define CHECK(name) do { CUresult status = fails(name); if (status) return status; } while (0)
#define CURRENT do { if (depth == 0) return 201; } while (0) /* CUDA_ERROR_INVALID_CONTEXT */

CUresult cuInit(unsigned flags) { CHECK("cuInit"); return 0; }
CUresult cuGetErrorString(CUresult status, const char **text) {
    *text = status == 2 ? "out of memory" : status == 100 ? "no CUDA-capable device is detected" : "unknown error";
    return 0;
}
CUresult cuDriverGetVersion(int *version) { *version = 12060; return 0; }
CUresult cuDeviceGetCount(int *count) {
    const char *wanted = getenv("STUB_COUNT");
    *count = wanted ? atoi(wanted) : 1;
    return 0;
}
CUresult cuDeviceGet(int *device, int ordinal) { *device = ordinal; return 0; }
CUresult cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Stub GPU", length); return 0; }
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
    const char *mode = getenv("STUB_MODE");
    switch (attribute) {
        case 75: *value = 8; return 0;
        case 76: *value = 9; return 0;
        case 20: *value = mode ? atoi(mode) : 0; return 0;
        case 18: *value = 0; return 0;
    }
    return 1;
}
CUresult cuDeviceTotalMem_v2(size_t *size, int device) { *size = (size_t)8 << 30; return 0; }
CUresult cuDevicePrimaryCtxRetain(void **given, int device) {
    CHECK("cuDevicePrimaryCtxRetain");
    __sync_fetch_and_add(&retained, 1);
    *given = context;
    return 0;
}
CUresult cuDevicePrimaryCtxRelease_v2(int device) { __sync_fetch_and_sub(&retained, 1); return 0; }
CUresult cuCtxPushCurrent_v2(void *given) {
    if (given != context || depth == 16) return 201;
    stack[depth++] = given;
    return 0;
}
CUresult cuCtxPopCurrent_v2(void **given) { CURRENT; *given = stack[--depth]; return 0; }
CUresult cuMemGetInfo_v2(size_t *free_, size_t *total) {
    CURRENT;
    *free_ = (size_t)(7 - live_buffers) << 30; /* one GiB a buffer, so that a test can count them */
    *total = (size_t)(retained * 100 + live_pinned) << 30;
    return 0;
}
CUresult cuMemAlloc_v2(uint64_t *address, size_t size) {
    CURRENT;
    CHECK("cuMemAlloc");
    *address = (uint64_t)(uintptr_t)malloc(size);
    live_buffers++;
    return 0;
}
CUresult cuMemFree_v2(uint64_t address) { CURRENT; free((void *)(uintptr_t)address); live_buffers--; return 0; }
CUresult cuMemHostAlloc(void **address, size_t size, unsigned flags) {
    CURRENT;
    *address = malloc(size);
    live_pinned++;
    return 0;
}
CUresult cuMemFreeHost(void *address) { CURRENT; free(address); live_pinned--; return 0; }
static CUresult copy(void *to, const void *from, size_t size, Stream *stream) {
    CURRENT;
    CHECK("cuMemcpy");
    if (stream->capturing) stream->copies[stream->count++] = (Copy){to, from, size};
    else memcpy(to, from, size);
    return 0;
}
CUresult cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, Stream *stream) {
    return copy((void *)(uintptr_t)to, from, size, stream);
}
CUresult cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, Stream *stream) {
    return copy(to, (const void *)(uintptr_t)from, size, stream);
}
CUresult cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, Stream *stream) {
    return copy((void *)(uintptr_t)to, (const void *)(uintptr_t)from, size, stream);
}
CUresult cuStreamCreate(Stream **stream, unsigned flags) { CURRENT; *stream = calloc(1, sizeof(Stream)); return 0; }
CUresult cuStreamSynchronize(Stream *stream) { CURRENT; CHECK("cuStreamSynchronize"); return 0; }
CUresult cuStreamDestroy_v2(Stream *stream) { CURRENT; free(stream); return 0; }
CUresult cuEventCreate(void **event, unsigned flags) { CURRENT; *event = malloc(1); return 0; }
CUresult cuEventRecord(void *event, Stream *stream) { CURRENT; return 0; }
CUresult cuEventSynchronize(void *event) { return 0; }
CUresult cuEventElapsedTime(float *ms, void *start, void *end) { *ms = 1.5f; return 0; }
CUresult cuEventElapsedTime_v2(float *ms, void *start, void *end) { *ms = 1.5f; return 0; }
CUresult cuEventDestroy_v2(void *event) { free(event); return 0; }
CUresult cuStreamBeginCapture_v2(Stream *stream, int mode) {
    CURRENT;
    if (mode != 1) return 1; /* thread-local */
    stream->capturing = 1;
    stream->count = 0;
    return 0;
}
CUresult cuStreamEndCapture(Stream *stream, Stream **graph) {
    if (!stream->capturing) return 900;
    stream->capturing = 0;
    *graph = malloc(sizeof(Stream));
    memcpy(*graph, stream, sizeof(Stream));
    return 0;
}
CUresult cuGraphInstantiateWithFlags(Stream **exec, Stream *graph, unsigned long long flags) {
    *exec = malloc(sizeof(Stream));
    memcpy(*exec, graph, sizeof(Stream));
    return 0;
}
CUresult cuGraphLaunch(Stream *exec, Stream *stream) {
    CURRENT;
    for (int i = 0; i < exec->count; i++) memcpy(exec->copies[i].to, exec->copies[i].from, exec->copies[i].size);
    return 0;
}
CUresult cuGraphExecDestroy(Stream *exec) { free(exec); return 0; }
CUresult cuGraphDestroy(Stream *graph) { free(graph); return 0; }
CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *found) {
    void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    char newer[128];
    snprintf(newer, sizeof newer, "%s_v2", name);
    *function = self ? dlsym(self, newer) : 0;
    if (!*function && self) *function = dlsym(self, name);
    if (found) *found = *function ? 0 : 1;
    return *function ? 0 : 500;
}
