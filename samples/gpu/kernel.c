// Lists the GPUs that OpenCL finds, runs a kernel on each, and compares the result with the processor's.
// Writes devices (one name per line), out (the sum) and fraction_done.
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 1 << 20, ROUNDS = 64, MOST = 16 };

static const char *source =
	"__kernel void advance(__global uint *x) {\n"
	"	size_t i = get_global_id(0);\n"
	"	x[i] = x[i] * 1664525u + 1013904223u;\n" // Numerical Recipes' generator
	"}\n";

static uint32_t numbers[N];

static void need(cl_int err, const char *what) {
	if (err == CL_SUCCESS)
		return;
	fprintf(stderr, "%s: OpenCL's error %d\n", what, err);
	exit(1);
}

static FILE *create(const char *name) {
	FILE *f = fopen(name, "w");
	if (!f) {
		perror(name);
		exit(1);
	}
	return f;
}

static void fraction(double done) {
	FILE *f = create("fraction_done");
	fprintf(f, "%f\n", done);
	fclose(f);
}

static uint32_t sum(void) {
	uint32_t s = 0;
	for (int i = 0; i < N; i++)
		s += numbers[i];
	return s;
}

static uint32_t on(cl_device_id device) {
	cl_int err;
	cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &err);
	need(err, "make a context");
	cl_command_queue queue = clCreateCommandQueue(context, device, 0, &err);
	need(err, "make a queue");
	cl_program program = clCreateProgramWithSource(context, 1, &source, NULL, &err);
	need(err, "read the kernel");
	need(clBuildProgram(program, 1, &device, "", NULL, NULL), "build the kernel");
	cl_kernel kernel = clCreateKernel(program, "advance", &err);
	need(err, "find the kernel");
	for (int i = 0; i < N; i++)
		numbers[i] = i;
	cl_mem memory = clCreateBuffer(context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, sizeof numbers, numbers, &err);
	need(err, "allocate memory");
	need(clSetKernelArg(kernel, 0, sizeof memory, &memory), "set the kernel's argument");
	size_t n = N;
	for (int round = 0; round < ROUNDS; round++)
		need(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &n, NULL, 0, NULL, NULL), "run the kernel");
	need(clEnqueueReadBuffer(queue, memory, CL_TRUE, 0, sizeof numbers, numbers, 0, NULL, NULL), "read the result");
	clReleaseMemObject(memory);
	clReleaseKernel(kernel);
	clReleaseProgram(program);
	clReleaseCommandQueue(queue);
	clReleaseContext(context);
	return sum();
}

int main(int argc, char **argv) {
	// Without a GPU the kernel can be tried on another OpenCL device, such as pocl's.
	cl_device_type kind = argc > 1 && !strcmp(argv[1], "any") ? CL_DEVICE_TYPE_ALL : CL_DEVICE_TYPE_GPU;
	cl_platform_id platforms[MOST];
	cl_device_id devices[MOST];
	cl_uint n_platforms = 0, n = 0;
	fraction(0);
	if (clGetPlatformIDs(MOST, platforms, &n_platforms) != CL_SUCCESS)
		n_platforms = 0;
	for (cl_uint p = 0; p < n_platforms && p < MOST; p++) {
		cl_uint more = 0;
		if (n < MOST && clGetDeviceIDs(platforms[p], kind, MOST - n, devices + n, &more) == CL_SUCCESS)
			n += more < MOST - n ? more : MOST - n;
	}
	if (n == 0) {
		fprintf(stderr, "OpenCL finds no GPU in this container (%u platforms)\n", n_platforms);
		return 1;
	}
	for (int i = 0; i < N; i++) {
		numbers[i] = i;
		for (int round = 0; round < ROUNDS; round++)
			numbers[i] = numbers[i] * 1664525u + 1013904223u;
	}
	uint32_t want = sum();
	FILE *list = create("devices");
	for (cl_uint i = 0; i < n; i++) {
		char name[256] = "";
		need(clGetDeviceInfo(devices[i], CL_DEVICE_NAME, sizeof name - 1, name, NULL), "get a device's name");
		fprintf(list, "%u %s\n", i, name);
		fprintf(stderr, "device %u: %s\n", i, name);
		uint32_t got = on(devices[i]);
		if (got != want) {
			fprintf(stderr, "%s: got %u, want %u\n", name, got, want);
			return 1;
		}
		fraction((i + 1.0) / n);
	}
	fclose(list);
	FILE *out = create("out");
	fprintf(out, "%u\n", want);
	fclose(out);
	return 0;
}
