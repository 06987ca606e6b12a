/* A stand-in for libamd_smi.so (release 26.0, ROCm 7.0): enough for the real amdsmi binding to load and talk to.
 *
 * What it answers is written in the text file named by AMDSMI_STUB_STATE, one "key=value" per line, read again on
 * every call, so that a test can change a machine while it is being watched. Keys of one device ("gpu3.power") win
 * over those of all ("gpu.power"). A number that is not in the file stays all ones, the library's own sign for "not
 * measured"; a call without any of its keys answers NOT_SUPPORTED. "fail.<function>" (with or without a device) makes
 * a call answer that status, or "hang", or "crash"; "gpu3.fail" does so for every call about one device.
 *
 * REST(X) comes from amdsmi_host.py: the entry points of the binding that have no body here.
 */
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 2, NOT_FOUND = 31, NOT_INIT = 32 };

#define UNSUPPORTED(function) int function(void) { return NOT_SUPPORTED; }
REST(UNSUPPORTED)

typedef void *handle;

/* ---- structures, as release 26.0 lays them out ---- */

typedef struct { uint32_t major, minor, release; char *build; } version_t;
typedef struct { uint32_t total, used, reserved[2]; } vram_usage_t;
typedef struct { uint64_t cap, fallback, dpm, min, max, reserved[3]; } power_cap_info_t;
typedef struct {
    uint64_t socket; uint32_t current, average; uint64_t gfx_voltage, soc_voltage, mem_voltage; uint32_t limit;
    uint64_t reserved[18];
} power_info_t;
typedef struct {
    char market_name[256]; uint32_t vendor_id; char vendor_name[256]; uint32_t subvendor_id; uint64_t device_id;
    uint32_t rev_id; char asic_serial[256]; uint32_t oam_id, compute_units; uint64_t graphics_version;
    uint32_t subsystem_id, reserved[21];
} asic_info_t;
typedef struct { uint64_t kfd_id; uint32_t node_id, partition_id, reserved[12]; } kfd_info_t;
typedef struct { char version[256], date[256], name[256]; } driver_info_t;
typedef struct { char model_number[256], serial[256], fru_id[256], name[256], maker[256]; uint64_t reserved[64]; } board_info_t;
typedef struct { char name[256], build_date[256], part_number[256], version[256]; uint64_t reserved[68]; } vbios_info_t;
typedef struct { uint64_t corrected, uncorrected, deferred, reserved[5]; } error_count_t;
typedef struct { uint64_t address, size; uint32_t status; } retired_page_record_t;
typedef struct { uint32_t gfx, umc, mm, reserved[13]; } engine_usage_t;
typedef struct { uint32_t clk, min, max; uint8_t locked, deep_sleep; uint32_t reserved[4]; } clk_info_t;
typedef struct {
    struct { uint16_t width; uint32_t speed, version, slot, max_version; uint64_t reserved[9]; } fixed;
    struct {
        uint16_t width; uint32_t speed, bandwidth;
        uint64_t replays, recoveries, roll_overs, naks_sent, naks_received; uint32_t other_end; uint64_t reserved[12];
    } metric;
    uint64_t reserved[32];
} pcie_info_t;
typedef struct {
    char name[256]; uint32_t pid; uint64_t mem;
    struct { uint64_t gfx, enc; uint32_t reserved[12]; } engines;
    struct { uint64_t gtt, cpu, vram; uint32_t reserved[10]; } memory;
    char container[256]; uint32_t cu_occupancy, reserved[11];
} proc_info_t;
typedef struct {
    char model_name[256]; uint32_t family, model, threads_per_core, cores_per_socket; uint8_t boost; uint32_t vendor_id;
    char vendor_name[256]; uint32_t subvendor_id; uint64_t device_id; uint32_t rev_id; char asic_serial[256];
    uint32_t socket_id, core_id, cpu_cores, sockets, cores, reserved[17];
} cpu_info_t;
typedef struct {
    uint32_t gfx_busy_inst[8]; uint16_t jpeg_busy[40], vcn_busy[4]; uint64_t gfx_busy_acc[8], below_host_limit[8],
    below_host_limit_ppt[8], below_host_limit_thm[8], low_utilization[8], below_host_limit_total[8];
} xcp_metrics_t;
typedef struct {
    uint16_t structure_size; uint8_t format_revision, content_revision;
    uint16_t temperature_edge, temperature_hotspot, temperature_mem, temperature_vrgfx, temperature_vrsoc,
        temperature_vrmem, average_gfx_activity, average_umc_activity, average_mm_activity, average_socket_power;
    uint64_t energy_accumulator, system_clock_counter;
    uint16_t average_clocks[7], current_gfxclk, current_socclk, current_uclk, current_vclk0, current_dclk0,
        current_vclk1, current_dclk1;
    uint32_t throttle_status;
    uint16_t current_fan_speed, pcie_link_width, pcie_link_speed;
    uint32_t gfx_activity_acc, mem_activity_acc;
    uint16_t temperature_hbm[4];
    uint64_t firmware_timestamp;
    uint16_t voltage_soc, voltage_gfx, voltage_mem;
    uint64_t indep_throttle_status;
    uint16_t current_socket_power, vcn_activity[4];
    uint32_t gfxclk_lock_status;
    uint16_t xgmi_link_width, xgmi_link_speed;
    uint64_t pcie_bandwidth_acc, pcie_bandwidth_inst, pcie_l0_to_recov_count_acc, pcie_replay_count_acc,
        pcie_replay_rover_count_acc, xgmi_read_data_acc[8], xgmi_write_data_acc[8];
    uint16_t current_gfxclks[8], current_socclks[4], current_vclk0s[4], current_dclk0s[4], jpeg_activity[32];
    uint32_t pcie_nak_sent_count_acc, pcie_nak_rcvd_count_acc;
    uint64_t accumulation_counter, prochot_residency_acc, ppt_residency_acc, socket_thm_residency_acc,
        vr_thm_residency_acc, hbm_thm_residency_acc;
    uint16_t num_partition;
    xcp_metrics_t xcp_stats[8];
    uint32_t pcie_lc_perf_other_end_recovery;
    uint64_t vram_max_bandwidth;
    uint16_t xgmi_link_status[8];
} gpu_metrics_t;

/* For the test that holds these against the binding's own. */
uint64_t stub_sizeof(const char *name)
{
#define SIZE(type) if (!strcmp(name, #type)) return sizeof(type)
    SIZE(version_t); SIZE(vram_usage_t); SIZE(power_cap_info_t); SIZE(power_info_t); SIZE(asic_info_t);
    SIZE(kfd_info_t); SIZE(driver_info_t); SIZE(board_info_t); SIZE(vbios_info_t); SIZE(error_count_t);
    SIZE(retired_page_record_t); SIZE(engine_usage_t); SIZE(clk_info_t); SIZE(pcie_info_t); SIZE(proc_info_t);
    SIZE(cpu_info_t); SIZE(gpu_metrics_t);
    return 0;
}

/* ---- the state file ---- */

static char state[1 << 18];

static void load(void)
{
    const char *path = getenv("AMDSMI_STUB_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    size_t length = file ? fread(state + 1, 1, sizeof state - 2, file) : 0;
    state[0] = '\n';
    state[length + 1] = 0;
    if (file)
        fclose(file);
}

/* The text after "\nkey=", or NULL; ends at the line's end. */
static const char *lookup(const char *key)
{
    char line[160];
    snprintf(line, sizeof line, "\n%s=", key);
    const char *found = strstr(state, line);
    return found ? found + strlen(line) : NULL;
}

static const char *find(const char *kind, int index, const char *field)
{
    char key[150];
    snprintf(key, sizeof key, "%s%d.%s", kind, index, field);
    const char *own = lookup(key);
    if (own)
        return own;
    snprintf(key, sizeof key, "%s.%s", kind, field);
    return lookup(key);
}

static uint64_t number(const char *text, uint64_t otherwise) { return text ? strtoull(text, NULL, 0) : otherwise; }

static void copy(char *target, size_t size, const char *text)
{
    size_t length = text ? strcspn(text, "\n") : 0;
    if (length >= size)
        length = size - 1;
    if (text)
        memcpy(target, text, length);
    target[length] = 0;
}

/* "1 2 3" into an array; the rest keeps its all ones. */
static void fill(void *target, size_t width, size_t count, const char *text)
{
    for (size_t i = 0; text && i < count; i++) {
        while (*text == ' ')
            text++;
        if (*text < '0' || *text > '9')
            return;
        char *end;
        uint64_t value = strtoull(text, &end, 0);
        memcpy((char *)target + i * width, &value, width);
        text = end;
    }
}

static int forced(const char *kind, int index, const char *function)
{
    char field[120], key[120];
    snprintf(field, sizeof field, "fail.%s", function);
    snprintf(key, sizeof key, "fail.%s", function);
    const char *text = kind ? find(kind, index, field) : NULL;
    if (!text)
        text = lookup(key);
    if (!text && kind)
        text = find(kind, index, "fail");
    if (!text)
        return OK;
    if (!strncmp(text, "hang", 4))
        for (;;)
            pause();
    if (!strncmp(text, "crash", 5))
        raise(SIGSEGV);
    return (int)number(text, OK);
}

/* ---- handles: kind, generation (a driver reload starts a new one) and index in one pointer ---- */

enum { SOCKET = 1, GPU = 2, CPU = 3 };
static int initialised;

static handle make(int kind, int index)
{
    return (handle)(uintptr_t)((uint64_t)kind << 40 | (number(lookup("generation"), 0) & 0xFFFF) << 20 | (index + 1));
}

static int index_of(handle h, int kind)
{
    uint64_t value = (uint64_t)(uintptr_t)h;
    if ((int)(value >> 40) != kind || ((value >> 20) & 0xFFFF) != (number(lookup("generation"), 0) & 0xFFFF))
        return -1;
    return (int)(value & 0xFFFFF) - 1;
}

static int list(int kind, int first, int count, uint32_t *held, handle *handles)
{
    if (handles)
        for (int i = 0; i < count && (uint32_t)i < *held; i++)
            handles[i] = make(kind, first + i);
    *held = (uint32_t)count;
    return OK;
}

#define ENTER(kind_name, kind)                            \
    load();                                               \
    if (!initialised)                                     \
        return NOT_INIT;                                  \
    int i = index_of(h, kind);                            \
    if (i < 0)                                            \
        return NOT_FOUND;                                 \
    int status = forced(kind_name, i, __func__);          \
    if (status)                                           \
        return status;
#define GPU_CALL ENTER("gpu", GPU)
#define CPU_CALL ENTER("cpu", CPU)
#define NEED(kind, field) if (!find(kind, i, field)) return NOT_SUPPORTED
#define GET(field) find("gpu", i, field)
#define U64(field) number(GET(field), UINT64_MAX)
#define U32(field) (uint32_t)number(GET(field), UINT32_MAX)
#define U16(field) (uint16_t)number(GET(field), UINT16_MAX)
#define TEXT(target, field) copy(target, sizeof target, GET(field))

/* ---- library ---- */

int amdsmi_get_lib_version(version_t *out)
{
    static char build[] = "stub";
    load();
    out->major = (uint32_t)number(lookup("library.major"), 26);
    out->minor = (uint32_t)number(lookup("library.minor"), 0);
    out->release = (uint32_t)number(lookup("library.release"), 2);
    out->build = build;
    return forced(NULL, 0, __func__);
}

int amdsmi_init(uint64_t flags)
{
    (void)flags;
    load();
    int status = forced(NULL, 0, __func__);
    initialised = status == OK;
    return status;
}

int amdsmi_shut_down(void)
{
    load();
    initialised = 0;
    return forced(NULL, 0, __func__);
}

int amdsmi_get_socket_handles(uint32_t *count, handle *handles)
{
    load();
    int per_socket = (int)number(lookup("gpus_per_socket"), 1);
    return list(SOCKET, 0, (int)number(lookup("gpus"), 0) / per_socket, count, handles);
}

int amdsmi_get_processor_handles(handle h, uint32_t *count, handle *handles)
{
    load();
    int per_socket = (int)number(lookup("gpus_per_socket"), 1);
    return list(GPU, index_of(h, SOCKET) * per_socket, per_socket, count, handles);
}

int amdsmi_get_cpu_handles(uint32_t *count, handle *handles)
{
    load();
    int status = forced(NULL, 0, __func__);
    return status ? status : list(CPU, 0, (int)number(lookup("cpus"), 0), count, handles);
}

/* ---- what a GPU is ---- */

int amdsmi_get_gpu_device_uuid(handle h, uint32_t *length, char *out)
{
    GPU_CALL NEED("gpu", "uuid");
    copy(out, *length, GET("uuid"));
    return OK;
}

int amdsmi_get_gpu_device_bdf(handle h, uint64_t *out)
{
    GPU_CALL NEED("gpu", "pci");
    unsigned domain = 0, bus = 0, device = 0, function = 0;
    sscanf(GET("pci"), "%x:%x:%x.%x", &domain, &bus, &device, &function);
    *out = (uint64_t)domain << 16 | bus << 8 | device << 3 | function;
    return OK;
}

int amdsmi_get_gpu_kfd_info(handle h, kfd_info_t *out)
{
    GPU_CALL
    memset(out, 0, sizeof *out);
    out->kfd_id = U64("kfd_id");
    out->node_id = U32("node_id");
    out->partition_id = U32("partition_id");
    return OK;
}

int amdsmi_get_gpu_asic_info(handle h, asic_info_t *out)
{
    GPU_CALL NEED("gpu", "market_name");
    memset(out, 0, sizeof *out);
    TEXT(out->market_name, "market_name");
    TEXT(out->asic_serial, "asic_serial");
    out->vendor_id = 0x1002;
    out->device_id = number(GET("device_id"), 0);
    out->oam_id = U32("oam_id");
    out->compute_units = U32("compute_units");
    out->graphics_version = number(GET("graphics_version"), 0);
    return OK;
}

int amdsmi_get_gpu_board_info(handle h, board_info_t *out)
{
    GPU_CALL
    memset(out, 0, sizeof *out);
    TEXT(out->serial, "board_serial");
    TEXT(out->name, "board_name");
    return OK;
}

int amdsmi_get_gpu_vbios_info(handle h, vbios_info_t *out)
{
    GPU_CALL NEED("gpu", "vbios");
    memset(out, 0, sizeof *out);
    TEXT(out->part_number, "vbios");
    return OK;
}

int amdsmi_get_gpu_driver_info(handle h, driver_info_t *out)
{
    GPU_CALL
    memset(out, 0, sizeof *out);
    TEXT(out->version, "driver");
    copy(out->name, sizeof out->name, "amdgpu");
    return OK;
}

static int partition_mode(handle h, char *out, uint32_t length, const char *field, const char *function)
{
    load();
    int i = index_of(h, GPU);
    int status = i < 0 ? NOT_FOUND : forced("gpu", i, function);
    if (status == OK && !GET(field))
        status = NOT_SUPPORTED;
    if (status == OK)
        copy(out, length, GET(field));
    return status;
}

int amdsmi_get_gpu_compute_partition(handle h, char *out, uint32_t length)
{
    return partition_mode(h, out, length, "compute_partition", __func__);
}

int amdsmi_get_gpu_memory_partition(handle h, char *out, uint32_t length)
{
    return partition_mode(h, out, length, "memory_partition", __func__);
}

/* ---- what a GPU measures ---- */

/* Raw energy counts of 2^-16 J; with "live" it also grows by the power that is reported. */
static uint64_t energy_counts(int i)
{
    if (!GET("energy"))
        return UINT64_MAX;
    uint64_t counts = number(GET("energy"), 0);
    if (GET("live")) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t watts = number(GET("current_socket_power"), number(GET("average_socket_power"), 0));
        counts += (uint64_t)(((double)now.tv_sec + now.tv_nsec * 1e-9) * (double)watts * 65536);
    }
    return counts;
}

int amdsmi_get_gpu_metrics_info(handle h, gpu_metrics_t *out)
{
    GPU_CALL
#define FIELD(name) fill(&out->name, sizeof out->name, 1, GET(#name))
#define ARRAY(name) fill(out->name, sizeof out->name[0], sizeof out->name / sizeof out->name[0], GET(#name))
    memset(out, 0xFF, sizeof *out);
    out->structure_size = sizeof *out;
    out->format_revision = 1;
    out->content_revision = 8;
    FIELD(temperature_edge); FIELD(temperature_hotspot); FIELD(temperature_mem); ARRAY(temperature_hbm);
    FIELD(average_gfx_activity); FIELD(average_umc_activity);
    FIELD(average_socket_power); FIELD(current_socket_power);
    FIELD(current_gfxclk); ARRAY(current_gfxclks); FIELD(current_uclk);
    FIELD(throttle_status); FIELD(indep_throttle_status);
    FIELD(accumulation_counter); FIELD(prochot_residency_acc); FIELD(ppt_residency_acc);
    FIELD(socket_thm_residency_acc); FIELD(vr_thm_residency_acc); FIELD(hbm_thm_residency_acc);
    ARRAY(xgmi_read_data_acc); ARRAY(xgmi_write_data_acc);
    fill(out->xcp_stats[0].gfx_busy_inst, 4, 8, GET("gfx_busy_inst"));
    out->energy_accumulator = energy_counts(i);
    return OK;
}

int amdsmi_get_energy_count(handle h, uint64_t *counts, float *resolution, uint64_t *timestamp)
{
    GPU_CALL NEED("gpu", "energy");
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *counts = energy_counts(i);
    *resolution = GET("energy_resolution") ? strtof(GET("energy_resolution"), NULL) : 15.3f;
    *timestamp = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return OK;
}

int amdsmi_get_gpu_vram_usage(handle h, vram_usage_t *out)
{
    GPU_CALL NEED("gpu", "vram_total");
    memset(out, 0, sizeof *out);
    out->total = U32("vram_total");
    out->used = U32("vram_used");
    return OK;
}

int amdsmi_get_power_info(handle h, power_info_t *out)
{
    GPU_CALL NEED("gpu", "has_power_info");
    memset(out, 0, sizeof *out);
    out->socket = U64("power_info.socket");
    out->current = U32("power_info.current");
    out->average = U32("power_info.average");
    out->limit = U32("power_info.limit");
    return OK;
}

int amdsmi_get_power_cap_info(handle h, uint32_t sensor, power_cap_info_t *out)
{
    (void)sensor;
    GPU_CALL NEED("gpu", "power_cap");
    memset(out, 0, sizeof *out);
    out->cap = U64("power_cap");
    out->fallback = number(GET("power_cap_default"), 0);
    out->min = number(GET("power_cap_min"), 0);
    out->max = number(GET("power_cap_max"), 0);
    return OK;
}

int amdsmi_get_gpu_activity(handle h, engine_usage_t *out)
{
    GPU_CALL NEED("gpu", "activity.gfx");
    memset(out, 0, sizeof *out);
    out->gfx = U32("activity.gfx");
    out->umc = U32("activity.umc");
    out->mm = UINT16_MAX;
    return OK;
}

int amdsmi_get_temp_metric(handle h, uint32_t sensor, uint32_t metric, int64_t *out)
{
    char field[40];
    snprintf(field, sizeof field, "sensor.%u", sensor);
    GPU_CALL NEED("gpu", field);
    if (metric != 0)
        return NOT_SUPPORTED;
    *out = (int64_t)U64(field);
    return OK;
}

int amdsmi_get_clock_info(handle h, uint32_t type, clk_info_t *out)
{
    char field[40];
    snprintf(field, sizeof field, "clock.%u", type);
    GPU_CALL NEED("gpu", field);
    memset(out, 0, sizeof *out);
    out->clk = U32(field);
    return OK;
}

int amdsmi_get_gpu_total_ecc_count(handle h, error_count_t *out)
{
    GPU_CALL NEED("gpu", "ecc_corrected");
    memset(out, 0, sizeof *out);
    out->corrected = U64("ecc_corrected");
    out->uncorrected = U64("ecc_uncorrected");
    return OK;
}

/* "bad_pages" holds one status digit per page: 0 reserved, 1 pending, 2 unreservable. */
int amdsmi_get_gpu_bad_page_info(handle h, uint32_t *count, retired_page_record_t *out)
{
    GPU_CALL NEED("gpu", "bad_pages");
    const char *pages = GET("bad_pages");
    uint32_t known = (uint32_t)strspn(pages, "012");
    for (uint32_t n = 0; out && n < known && n < *count; n++)
        out[n] = (retired_page_record_t){ .address = n, .size = 4096, .status = (uint32_t)(pages[n] - '0') };
    *count = known;
    return OK;
}

int amdsmi_get_pcie_info(handle h, pcie_info_t *out)
{
    GPU_CALL NEED("gpu", "pcie_width");
    memset(out, 0xFF, sizeof *out);
    out->metric.width = U16("pcie_width");
    out->metric.speed = U32("pcie_speed");
    out->metric.replays = U64("pcie_replays");
    return OK;
}

/* "processes" holds pid:bytes:name for each, separated by commas; "processes=" is nobody. */
int amdsmi_get_gpu_process_list(handle h, uint32_t *count, proc_info_t *out)
{
    GPU_CALL NEED("gpu", "processes");
    char text[4096], *rest = text;
    TEXT(text, "processes");
    uint32_t found = 0;
    for (char *entry; *text && (entry = strsep(&rest, ",")) && found < *count; found++) {
        memset(&out[found], 0, sizeof out[found]);
        out[found].pid = (uint32_t)atol(strsep(&entry, ":"));
        out[found].mem = out[found].memory.vram = strtoull(strsep(&entry, ":"), NULL, 10);
        snprintf(out[found].name, sizeof out[found].name, "%s", entry);
    }
    *count = found;
    return OK;
}

/* Reading these takes about a second, or two firmware samples: a source that ticks must not call them. */
int amdsmi_get_gpu_pci_throughput(handle h, uint64_t *sent, uint64_t *received, uint64_t *packet)
{
    (void)h; (void)sent; (void)received; (void)packet;
    abort();
}

int amdsmi_get_violation_status(handle h, void *out)
{
    (void)h; (void)out;
    abort();
}

/* ---- EPYC sockets ---- */

int amdsmi_get_processor_info(handle h, size_t length, char *out)
{
    CPU_CALL
    snprintf(out, length, "%d", i);
    return OK;
}

int amdsmi_get_cpu_model_name(handle h, cpu_info_t *out)
{
    CPU_CALL NEED("cpu", "model_name");
    memset(out, 0, sizeof *out);
    copy(out->model_name, sizeof out->model_name, find("cpu", i, "model_name"));
    return OK;
}

#define CPU_NUMBER(function, field, type)                      \
    int function(handle h, type *out)                          \
    {                                                          \
        CPU_CALL NEED("cpu", field);                           \
        *out = (type)number(find("cpu", i, field), (type)-1);  \
        return OK;                                             \
    }
CPU_NUMBER(amdsmi_get_cpu_socket_power, "milliwatts", uint32_t)
CPU_NUMBER(amdsmi_get_cpu_socket_power_cap, "cap_milliwatts", uint32_t)
CPU_NUMBER(amdsmi_get_cpu_socket_energy, "microjoules", uint64_t)
CPU_NUMBER(amdsmi_get_cpu_socket_temperature, "temperature", uint32_t)
CPU_NUMBER(amdsmi_get_cpu_hsmp_proto_ver, "hsmp_protocol", uint32_t)

int amdsmi_get_cpu_smu_fw_version(handle h, uint8_t *out)
{
    CPU_CALL NEED("cpu", "firmware");
    unsigned major = 0, minor = 0, debug = 0;
    sscanf(find("cpu", i, "firmware"), "%u.%u.%u", &major, &minor, &debug);
    out[0] = (uint8_t)debug;
    out[1] = (uint8_t)minor;
    out[2] = (uint8_t)major;
    return OK;
}
