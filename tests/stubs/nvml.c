/* A stand-in for NVIDIA's libnvidia-ml.so.1, for tests on machines without a GPU.
 *
 * Every answer comes from a text file named by NVML_STUB, which is read again whenever it was
 * replaced, so a test can change the world while the library is in use. A line is
 *
 *     [device.]function[.argument]=answer
 *
 * with the exported symbol's name as function, gpu3 or gpu0.mig1 as device (without one: every GPU)
 * and as answer the numbers or the text to return, or one of
 *
 *     error N    return code N
 *     hang       never return
 *     crash      segmentation fault
 *
 * A line "gpu3=error 15" answers every call about that GPU. What the file does not mention is
 * NOT_SUPPORTED. A changed line "boot=..." starts the energy counters anew. With -DOLD_DRIVER the
 * symbols that older drivers lack are left out. */

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE, TIMEOUT = 10 };
enum { MAX_GPUS = 16, MAX_SLOTS = 8, TEXT = 512, WHOLE_GPU = -1, NO_INSTANCE = -1 };

typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct { int gpu, slot; double energy_mj, energy_at; } Device;
typedef Device *Handle;

/* ---- the world file ---- */

static pthread_mutex_t world_lock = PTHREAD_MUTEX_INITIALIZER;
static char world[1 << 17];
static int users; /* nvmlInit less nvmlShutdown */

static void reload(void)
{
    static struct stat known;
    struct stat now;
    const char *path = getenv("NVML_STUB");
    if (!path || stat(path, &now) || (now.st_ino == known.st_ino && now.st_mtim.tv_nsec == known.st_mtim.tv_nsec))
        return;
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    world[fread(world, 1, sizeof world - 1, file)] = 0;
    fclose(file);
    known = now;
}

/* Copies the answer for a key; false when the file has no such line. */
static int lookup(const char *key, char *text)
{
    size_t length = strlen(key);
    int found = 0;
    pthread_mutex_lock(&world_lock);
    reload();
    for (const char *line = world; *line && !found; line += strcspn(line, "\n"), line += *line == '\n')
        if (!strncmp(line, key, length) && line[length] == '=') {
            snprintf(text, TEXT, "%.*s", (int)strcspn(line + length + 1, "\n"), line + length + 1);
            found = 1;
        }
    pthread_mutex_unlock(&world_lock);
    return found;
}

/* Return code of an answer: 0, an error, or no return at all. */
static int obey(const char *text)
{
    int code;
    if (sscanf(text, "error %d", &code) == 1)
        return code;
    if (!strcmp(text, "hang"))
        for (;;)
            pause();
    if (!strcmp(text, "crash"))
        *(volatile int *)0 = 1;
    return SUCCESS;
}

/* The answer about a device (NULL: the driver) to what the format spells. */
static int answer(Handle device, char *text, const char *format, ...)
{
    char what[128], key[192];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    if (!users)
        return UNINITIALIZED;
    if (!device)
        return lookup(what, text) ? obey(text) : NOT_SUPPORTED;
    snprintf(key, sizeof key, "gpu%d", device->gpu);
    int code = lookup(key, text) ? obey(text) : SUCCESS;
    if (code)
        return code;
    if (device->slot != WHOLE_GPU)
        snprintf(key, sizeof key, "gpu%d.mig%d.%s", device->gpu, device->slot, what);
    else
        snprintf(key, sizeof key, "gpu%d.%s", device->gpu, what);
    if (lookup(key, text) || (device->slot == WHOLE_GPU && lookup(what, text)))
        return obey(text);
    return NOT_SUPPORTED;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

/* The n-th number of an answer; -1 gives all ones, as the driver does for "no value". */
static u64 number(const char *text, int n)
{
    char *end = (char *)text;
    u64 value = 0;
    for (int i = 0; i <= n; i++)
        value = strtoull(end, &end, 10);
    return value;
}

#define ASK_AS(device, ...)                          \
    char text[TEXT];                                 \
    int code = answer(device, text, __VA_ARGS__);    \
    if (code)                                        \
        return code
#define ASK(device) ASK_AS(device, "%s", __func__)

/* Functions that return one number, two numbers, or a text about a device. */
#define ONE(function, type) \
    int function(Handle device, type *value) { ASK(device); *value = (type)number(text, 0); return SUCCESS; }
#define ONE_BY(function, type) \
    int function(Handle device, u32 which, type *value) \
    { ASK_AS(device, "%s.%u", __func__, which); *value = (type)number(text, 0); return SUCCESS; }
#define TWO(function) \
    int function(Handle device, u32 *first, u32 *second) \
    { ASK(device); *first = number(text, 0); *second = number(text, 1); return SUCCESS; }
#define NAME(function) \
    int function(Handle device, char *name, u32 size) { ASK(device); snprintf(name, size, "%s", text); return SUCCESS; }

/* ---- the driver ---- */

int nvmlInitWithFlags(u32 flags)
{
    (void)flags;
    users++;
    char text[TEXT];
    int code = answer(NULL, text, "%s", __func__);
    users -= code != SUCCESS;
    return code;
}

int nvmlShutdown(void)
{
    if (!users)
        return UNINITIALIZED;
    users--;
    return SUCCESS;
}

const char *nvmlErrorString(int code)
{
    static char text[32];
    snprintf(text, sizeof text, "stub error %d", code);
    return text;
}

int nvmlSystemGetDriverVersion(char *version, u32 size)
{
    ASK(NULL);
    snprintf(version, size, "%s", text);
    return SUCCESS;
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) { ASK(NULL); *version = number(text, 0); return SUCCESS; }
int nvmlSystemGetProcessName(u32 pid, char *name, u32 size)
{
    char text[TEXT];
    int code = answer(NULL, text, "%s.%u", __func__, pid);
    if (code)
        return code == NOT_SUPPORTED ? NOT_FOUND : code; /* a process of another pid namespace */
    snprintf(name, size, "%s", text);
    return SUCCESS;
}

/* ---- identity ---- */

static Device gpus[MAX_GPUS], slices[MAX_GPUS][MAX_SLOTS];

int nvmlDeviceGetCount_v2(u32 *count) { ASK(NULL); *count = number(text, 0); return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(u32 index, Handle *handle)
{
    if (index >= MAX_GPUS)
        return INVALID_ARGUMENT;
    gpus[index].gpu = index;
    gpus[index].slot = WHOLE_GPU;
    ASK(&gpus[index]);
    *handle = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(Handle device, u32 index, Handle *handle)
{
    char text[TEXT];
    int code = index < MAX_SLOTS ? answer(device, text, "%s.%u", __func__, index) : INVALID_ARGUMENT;
    if (code)
        return code == NOT_SUPPORTED ? NOT_FOUND : code; /* an empty slot */
    slices[device->gpu][index] = (Device){.gpu = device->gpu, .slot = index};
    *handle = &slices[device->gpu][index];
    return SUCCESS;
}

/* domain, bus, device and device id, as decimal numbers */
typedef struct { char legacy[16]; u32 domain, bus, device, device_id, subsystem_id; char bus_id[32]; } PciInfo;
int nvmlDeviceGetPciInfo_v3(Handle device, PciInfo *pci)
{
    ASK(device);
    memset(pci, 0, sizeof *pci);
    pci->domain = number(text, 0);
    pci->bus = number(text, 1);
    pci->device = number(text, 2);
    pci->device_id = number(text, 3);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:%02X.0", pci->domain, pci->bus, pci->device);
    return SUCCESS;
}

NAME(nvmlDeviceGetUUID)
NAME(nvmlDeviceGetName)
NAME(nvmlDeviceGetSerial)
NAME(nvmlDeviceGetBoardPartNumber)
NAME(nvmlDeviceGetVbiosVersion)
ONE(nvmlDeviceGetArchitecture, u32)
TWO(nvmlDeviceGetMigMode)
ONE(nvmlDeviceGetMaxMigDeviceCount, u32)
ONE(nvmlDeviceGetGpuInstanceId, u32)
ONE(nvmlDeviceGetComputeInstanceId, u32)

/* slices, memory in MB */
typedef struct { u32 engines[6], gpu_slices, compute_slices; u64 memory_mb; } Attributes;
int nvmlDeviceGetAttributes_v2(Handle device, Attributes *attributes)
{
    ASK(device);
    *attributes = (Attributes){.gpu_slices = number(text, 0), .memory_mb = number(text, 1)};
    return SUCCESS;
}

/* ---- values ---- */

int nvmlDeviceGetUtilizationRates(Handle device, u32 *rates)
{
    ASK(device);
    rates[0] = number(text, 0);
    rates[1] = number(text, 1);
    return SUCCESS;
}
TWO(nvmlDeviceGetEncoderUtilization)
TWO(nvmlDeviceGetDecoderUtilization)
ONE(nvmlDeviceGetPowerUsage, u32)
ONE(nvmlDeviceGetEnforcedPowerLimit, u32)
ONE(nvmlDeviceGetPowerManagementDefaultLimit, u32)
TWO(nvmlDeviceGetPowerManagementLimitConstraints)
ONE_BY(nvmlDeviceGetTemperature, u32)
ONE_BY(nvmlDeviceGetClockInfo, u32)
ONE(nvmlDeviceGetPerformanceState, u32)
ONE(nvmlDeviceGetCurrentClocksThrottleReasons, u64)
ONE_BY(nvmlDeviceGetPcieThroughput, u32)
ONE(nvmlDeviceGetCurrPcieLinkGeneration, u32)
ONE(nvmlDeviceGetCurrPcieLinkWidth, u32)
ONE(nvmlDeviceGetPcieReplayCounter, u32)

/* total, reserved, free, used */
int nvmlDeviceGetMemoryInfo(Handle device, u64 *memory) /* total, free, used; reserved counts as used */
{
    ASK(device);
    memory[0] = number(text, 0);
    memory[1] = number(text, 2);
    memory[2] = number(text, 1) + number(text, 3);
    return SUCCESS;
}

/* The counter's start, in mJ; from the first call after "boot" changed it grows by the power in force. */
int nvmlDeviceGetTotalEnergyConsumption(Handle device, u64 *energy)
{
    static char boot[MAX_GPUS][TEXT];
    ASK(device);
    char now_boot[TEXT] = "", power[TEXT];
    double now = seconds();
    lookup("boot", now_boot);
    if (strcmp(boot[device->gpu], now_boot)) {
        strcpy(boot[device->gpu], now_boot);
        device->energy_mj = 0;
    } else if (!answer(device, power, "nvmlDeviceGetPowerUsage"))
        device->energy_mj += (u32)number(power, 0) * (now - device->energy_at);
    device->energy_at = now;
    *energy = number(text, 0);
    if (*energy != ~0ULL) /* "no value" stays that */
        *energy += (u64)device->energy_mj;
    return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(Handle device, u32 type, u32 counter, u64 *count)
{
    ASK_AS(device, "%s.%u.%u", __func__, type, counter);
    *count = number(text, 0);
    return SUCCESS;
}

int nvmlDeviceGetRemappedRows(Handle device, u32 *corrected, u32 *uncorrected, u32 *pending, u32 *failed)
{
    ASK(device);
    *corrected = number(text, 0);
    *uncorrected = number(text, 1);
    *pending = number(text, 2);
    *failed = number(text, 3);
    return SUCCESS;
}

/* field.ID.SCOPE=TYPE VALUE, with NVML's number for the value's type */
typedef struct {
    u32 id, scope;
    long long at, latency;
    u32 type;
    int code;
    union { double d; u64 u; } value;
} FieldValue;

int nvmlDeviceGetFieldValues(Handle device, int count, FieldValue *fields)
{
    ASK(device);
    for (FieldValue *field = fields; field < fields + count; field++) {
        field->code = answer(device, text, "field.%u.%u", field->id, field->scope);
        if (field->code)
            continue;
        field->type = number(text, 0);
        field->value.u = field->type == 1 ? (u32)number(text, 1) : number(text, 1);
        if (field->type == 0)
            sscanf(text, "0 %lf", &field->value.d);
    }
    return SUCCESS;
}

/* pid:bytes pid:bytes ... */
typedef struct { u32 pid; u64 bytes; u32 instance, compute_instance; } Process;
static int processes(Handle device, const char *function, u32 *count, Process *list)
{
    ASK_AS(device, "%s", function);
    u32 found = 0, room = list ? *count : 0;
    int length;
    Process process = {.instance = NO_INSTANCE, .compute_instance = NO_INSTANCE};
    for (char *next = text; sscanf(next, "%u:%llu%n", &process.pid, &process.bytes, &length) == 2; next += length)
        if (found++ < room)
            list[found - 1] = process;
    *count = found;
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
#define PROCESSES(function) \
    int function(Handle device, u32 *count, Process *list) { return processes(device, __func__, count, list); }
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2)

/* ---- events: xid.1=GPU CODE, xid.2=..., in the order in which they happen ---- */

typedef struct { Handle device; u64 type, data; u32 instance, compute_instance; } EventData;
typedef struct { int seen; u32 registered; } EventSet;

ONE(nvmlDeviceGetSupportedEventTypes, u64)

static int event_exists(int sequence, char *text)
{
    char key[32];
    snprintf(key, sizeof key, "xid.%d", sequence);
    return lookup(key, text);
}

int nvmlEventSetCreate(EventSet **set)
{
    ASK(NULL);
    *set = calloc(1, sizeof **set);
    while (event_exists((*set)->seen + 1, text)) /* only what comes from now on is heard */
        (*set)->seen++;
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(Handle device, u64 types, EventSet *set)
{
    ASK(device);
    (void)types;
    set->registered |= 1u << device->gpu;
    return SUCCESS;
}

int nvmlEventSetWait_v2(EventSet *set, EventData *data, u32 timeout_ms)
{
    char text[TEXT];
    for (double end = seconds() + timeout_ms / 1e3; seconds() < end; usleep(50000))
        while (event_exists(set->seen + 1, text)) {
            set->seen++;
            u32 gpu = number(text, 0);
            if (!(set->registered & 1u << gpu))
                continue;
            *data = (EventData){&gpus[gpu], 8, number(text, 1), NO_INSTANCE, NO_INSTANCE};
            return SUCCESS;
        }
    return TIMEOUT;
}

int nvmlEventSetFree(EventSet *set)
{
    free(set);
    return SUCCESS;
}

#ifndef OLD_DRIVER

ONE(nvmlDeviceGetCurrentClocksEventReasons, u64)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3)

typedef struct { u32 version; u64 total, reserved, free, used; } Memory;
int nvmlDeviceGetMemoryInfo_v2(Handle device, Memory *memory)
{
    ASK(device);
    memory->total = number(text, 0);
    memory->reserved = number(text, 1);
    memory->free = number(text, 2);
    memory->used = number(text, 3);
    return SUCCESS;
}

typedef struct { u32 version, sensor; int celsius; } Temperature;
int nvmlDeviceGetTemperatureV(Handle device, Temperature *temperature)
{
    ASK(device);
    temperature->celsius = (int)number(text, 0);
    return SUCCESS;
}

typedef struct { u32 version; int celsius; } Margin;
int nvmlDeviceGetMarginTemperature(Handle device, Margin *margin)
{
    ASK(device);
    margin->celsius = (int)number(text, 0);
    return SUCCESS;
}

/* ---- GPM: [gpu0.]gpm.METRIC=VALUE, [gpu0.]gi3.gpm.METRIC=VALUE for an instance ---- */

typedef struct { Handle device; int instance; double at; } Sample;
typedef struct { u32 id; int code; double value; char *names[3]; } Metric;
typedef struct { u32 version, count; Sample *first, *second; Metric metrics[]; } MetricsGet;

int nvmlGpmQueryDeviceSupport(Handle device, u32 *version_and_support)
{
    ASK(device);
    version_and_support[1] = number(text, 0);
    return SUCCESS;
}

int nvmlGpmSampleAlloc(Sample **sample) { *sample = calloc(1, sizeof **sample); return SUCCESS; }
int nvmlGpmSampleFree(Sample *sample) { free(sample); return SUCCESS; }

int nvmlGpmSampleGet(Handle device, Sample *sample)
{
    ASK(device);
    *sample = (Sample){device, NO_INSTANCE, seconds()};
    return SUCCESS;
}

int nvmlGpmMigSampleGet(Handle device, u32 instance, Sample *sample)
{
    ASK(device);
    *sample = (Sample){device, instance, seconds()};
    return SUCCESS;
}

int nvmlGpmMetricsGet(MetricsGet *request)
{
    Sample *first = request->first, *second = request->second;
    if (first->device != second->device || first->instance != second->instance || second->at - first->at < 0.1)
        return INVALID_ARGUMENT;
    for (u32 i = 0; i < request->count; i++) {
        Metric *metric = &request->metrics[i];
        char text[TEXT];
        if (first->instance == NO_INSTANCE)
            metric->code = answer(first->device, text, "gpm.%u", metric->id);
        else
            metric->code = answer(first->device, text, "gi%d.gpm.%u", first->instance, metric->id);
        if (!metric->code)
            metric->value = atof(text);
    }
    return SUCCESS;
}

#endif
