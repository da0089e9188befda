/* The lower bound of a model run: TF_SessionRun in a loop, with nothing around it.
 *
 *   floor_run FOLDER SECONDS [--threads=N,N...] {INPUT DTYPE SHAPE FILE}... -- OUTPUT...
 *
 * FOLDER  a SavedModel's version folder, loaded with the tag "serve"
 * SECONDS time to measure each way, after an unmeasured tenth of that
 * INPUT   a tensor to feed, as node:index; OUTPUT, those to fetch
 * DTYPE   float, int32 (FILE holds the elements, native byte order) or string (FILE is the one element)
 * SHAPE   comma-separated sizes, for example 1,224,224,3
 *
 * Prints one line of JSON per way of running; with --threads, caller and pool, in each number of threads at once, then
 * rested:
 *   caller    RunOptions.inter_op_thread_pool = -1: operations run in the caller's thread
 *   pool      TensorFlow's default: operations run on its pool
 *   rested    as caller, after a pause of 100 us before every run, which is not counted: caches have cooled and the
 *             core has slept, as between the requests of a single client
 *   together  as caller, in a thread per core at once, as under many clients: the runs of one session share locks
 * Each line: runs, threads, runs per_second of all threads together, and per run wall_us and cpu_us (means; CPU time
 * of all threads of the process), p50_us and minor page faults. The input tensors are created once and fed repeatedly;
 * fetched tensors are deleted at once. Exit status 1, with a reason, on any failure.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tensorflow/c/c_api.h"

enum { REST_NS = 100000, MAX_INPUTS = 16, MAX_OUTPUTS = 16, MAX_RANK = 8, MAX_TIMES = 1 << 20, MAX_THREADS = 256 };

/* RunOptions{inter_op_thread_pool: -1}: field 3, a varint of ten bytes. */
static const unsigned char IN_CALLER[] = {0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};

struct job {
    TF_Session *session;
    TF_Output inputs[MAX_INPUTS];
    TF_Tensor *values[MAX_INPUTS];
    int input_count;
    TF_Output outputs[MAX_OUTPUTS];
    int output_count;
};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "floor_run: %s: %s\n", what, why);
    exit(1);
}

static void check(const TF_Status *status, const char *what) {
    if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static double now(clockid_t clock) {
    struct timespec time;
    if (clock_gettime(clock, &time) != 0) fail("clock_gettime", "this clock cannot be read");
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static char *read_all(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) fail(path, "cannot be read");
    long length = ftell(file);
    char *bytes = length < 0 ? NULL : malloc((size_t)length + 1);
    rewind(file);
    if (!bytes || fread(bytes, 1, (size_t)length, file) != (size_t)length) fail(path, "cannot be read");
    fclose(file);
    *size = (size_t)length;
    return bytes;
}

static TF_Output endpoint(TF_Graph *graph, const char *text) {
    char *name = strdup(text);
    char *colon = name ? strrchr(name, ':') : NULL;
    if (!colon) fail(text, "is not node:index");
    *colon = '\0';
    TF_Output output = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
    if (!output.oper) fail(text, "is not in the graph");
    free(name);
    return output;
}

static TF_Tensor *tensor(const char *dtype, char *shape, const char *path) {
    int64_t dims[MAX_RANK];
    int rank = 0;
    for (char *size = strtok(shape, ","); size && rank < MAX_RANK; size = strtok(NULL, ",")) dims[rank++] = atoll(size);
    size_t size = 0;
    char *bytes = read_all(path, &size);
    int is_string = strcmp(dtype, "string") == 0;
    TF_DataType type = is_string ? TF_STRING : strcmp(dtype, "int32") == 0 ? TF_INT32 : TF_FLOAT;
    size_t held = is_string ? sizeof(TF_TString) : size;
    TF_Tensor *made = TF_AllocateTensor(type, dims, rank, held);
    if (!made || TF_TensorByteSize(made) != held) fail(path, "does not hold a tensor of this shape");
    if (is_string) {
        TF_TString *element = TF_TensorData(made);
        TF_StringInit(element);
        TF_StringCopy(element, bytes, size);
    } else {
        memcpy(TF_TensorData(made), bytes, size);
    }
    free(bytes);
    return made;
}

static void run(const struct job *job, const TF_Buffer *options, TF_Status *status) {
    TF_Tensor *results[MAX_OUTPUTS] = {0};
    TF_SessionRun(job->session, options, job->inputs, job->values, job->input_count, job->outputs, results,
                  job->output_count, NULL, 0, NULL, status);
    check(status, "TF_SessionRun");
    for (int i = 0; i < job->output_count; i++) TF_DeleteTensor(results[i]);
}

static int ascending(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

struct way {
    const char *name;
    const TF_Buffer *options;
    long pause_ns;
    long threads;
};

/* The work of one thread, and its results: sums in seconds, and each run's time. */
struct loop {
    const struct job *job;
    const struct way *way;
    double seconds, wall, cpu;
    size_t runs, room;
    float *times;
};

/* Runs once after the way's pause; returns the wall seconds, and adds the CPU seconds to the loop's. */
static double after_pause(struct loop *loop, TF_Status *status) {
    struct timespec pause = {0, loop->way->pause_ns};
    nanosleep(&pause, NULL);
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID), before = now(CLOCK_MONOTONIC);
    run(loop->job, loop->way->options, status);
    double took = now(CLOCK_MONOTONIC) - before;
    loop->cpu += now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    return took;
}

static void *repeat(void *argument) {
    struct loop *loop = argument;
    TF_Status *status = TF_NewStatus();
    double start = now(CLOCK_MONOTONIC), last = start;
    while (last - start < loop->seconds && loop->runs < loop->room) {
        double took;
        if (loop->way->pause_ns > 0) {
            took = after_pause(loop, status);
            last = now(CLOCK_MONOTONIC);
        } else {
            /* One clock reading per run: the loop is the run and little else. */
            run(loop->job, loop->way->options, status);
            double end = now(CLOCK_MONOTONIC);
            took = end - last;
            last = end;
        }
        loop->wall += took;
        loop->times[loop->runs++] = (float)took;
    }
    TF_DeleteStatus(status);
    return NULL;
}

/* Runs the way's threads for the given time; returns their loops as one, with its times at the front of `times`. */
static struct loop run_all(const struct job *job, const struct way *way, double seconds, float *times) {
    pthread_t threads[MAX_THREADS];
    struct loop loops[MAX_THREADS], sum = {.times = times};
    size_t room = MAX_TIMES / (size_t)way->threads;
    double cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    for (long i = 0; i < way->threads; i++) {
        loops[i] = (struct loop){job, way, seconds, 0, 0, 0, room, times + (size_t)i * room};
        if (pthread_create(&threads[i], NULL, repeat, &loops[i]) != 0) fail("pthread_create", "no more threads");
    }
    for (long i = 0; i < way->threads; i++) {
        pthread_join(threads[i], NULL);
        memmove(times + sum.runs, loops[i].times, loops[i].runs * sizeof *times);
        sum.runs += loops[i].runs;
        sum.wall += loops[i].wall;
        sum.cpu += loops[i].cpu;
    }
    if (way->pause_ns == 0) sum.cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    return sum;
}

static long minor_faults(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) fail("getrusage", "page faults cannot be read");
    return usage.ru_minflt;
}

static void measure(const struct job *job, const struct way *way, double seconds) {
    static float times[MAX_TIMES];
    run_all(job, way, seconds / 10, times);
    long faults = minor_faults();
    double begun = now(CLOCK_MONOTONIC);
    struct loop all = run_all(job, way, seconds, times);
    double took = now(CLOCK_MONOTONIC) - begun;
    faults = minor_faults() - faults;
    qsort(times, all.runs, sizeof *times, ascending);
    double runs = (double)all.runs, each = 1e6 / runs;
    printf("{\"way\": \"%s\", \"threads\": %ld, \"runs\": %zu, \"wall_us\": %.3f, \"cpu_us\": %.3f, ", way->name,
           way->threads, all.runs, all.wall * each, all.cpu * each);
    printf("\"p50_us\": %.3f, \"per_second\": %.3f, \"faults\": %.1f}\n", (double)times[all.runs / 2] * 1e6, runs / took,
           (double)faults / runs);
}

static void measure_threads(const struct job *job, const TF_Buffer *in_caller, char *counts, double seconds) {
    for (char *count = strtok(counts, ","); count; count = strtok(NULL, ",")) {
        long threads = atol(count);
        if (threads < 1 || threads > MAX_THREADS) fail(count, "is no number of threads");
        const struct way ways[] = {{"caller", in_caller, 0, threads}, {"pool", NULL, 0, threads}};
        for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) measure(job, &ways[i], seconds);
    }
    const struct way rested = {"rested", in_caller, REST_NS, 1};
    measure(job, &rested, seconds);
}

static void measure_ways(const struct job *job, const TF_Buffer *in_caller, double seconds) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores > MAX_THREADS) cores = MAX_THREADS;
    const struct way ways[] = {
        {"caller", in_caller, 0, 1},
        {"pool", NULL, 0, 1},
        {"rested", in_caller, REST_NS, 1},
        {"together", in_caller, 0, cores < 1 ? 1 : cores},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) measure(job, &ways[i], seconds);
}

/* Reads the inputs and, after "--", the outputs. */
static void read_endpoints(struct job *job, TF_Graph *graph, char **argument, char **end) {
    for (; argument + 4 <= end && strcmp(*argument, "--") != 0; argument += 4, job->input_count++) {
        if (job->input_count == MAX_INPUTS) fail("usage", "too many inputs");
        job->inputs[job->input_count] = endpoint(graph, argument[0]);
        job->values[job->input_count] = tensor(argument[1], argument[2], argument[3]);
    }
    if (argument == end || strcmp(*argument, "--") != 0) fail("usage", "-- OUTPUT... is missing");
    if (end - argument - 1 > MAX_OUTPUTS) fail("usage", "too many outputs");
    while (++argument < end) job->outputs[job->output_count++] = endpoint(graph, *argument);
}

int main(int argc, char **argv) {
    static const char THREADS[] = "--threads=";
    if (argc < 8) fail("usage", "FOLDER SECONDS [--threads=N,N...] {INPUT DTYPE SHAPE FILE}... -- OUTPUT...");
    char *threads = strncmp(argv[3], THREADS, strlen(THREADS)) == 0 ? argv[3] + strlen(THREADS) : NULL;
    TF_Status *status = TF_NewStatus();
    TF_Graph *graph = TF_NewGraph();
    TF_SessionOptions *options = TF_NewSessionOptions();
    const char *tags[] = {"serve"};
    struct job job = {0};
    job.session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
    check(status, argv[1]);
    read_endpoints(&job, graph, argv + (threads ? 4 : 3), argv + argc);
    TF_Buffer *in_caller = TF_NewBufferFromString(IN_CALLER, sizeof IN_CALLER);
    double seconds = atof(argv[2]);
    if (threads)
        measure_threads(&job, in_caller, threads, seconds);
    else
        measure_ways(&job, in_caller, seconds);
    TF_CloseSession(job.session, status);
    check(status, "TF_CloseSession");
    return 0;
}
