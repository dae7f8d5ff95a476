// A block takes a row: its maximum, then the sum of exponentials.
__device__ float over_block(float value, bool maximum) {
    __shared__ float parts[32];
    for (int step = 16; step; step /= 2) {
        const float other = __shfl_xor_sync(~0u, value, step);
        value = maximum ? fmaxf(value, other) : value + other;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    value = parts[0];
    for (int warp = 1; warp < 32; warp++) value = maximum ? fmaxf(value, parts[warp]) : value + parts[warp];
    return value;
}

__global__ void kernel(const float* x, float* out) {
    const float* in = x + blockIdx.x * x_1;
    float largest = -INFINITY, sum = 0.0f;
    for (int i = threadIdx.x; i < x_1; i += 1024) largest = fmaxf(largest, in[i]);
    largest = over_block(largest, true);
    for (int i = threadIdx.x; i < x_1; i += 1024) sum += expf(in[i] - largest);
    const float shift = logf(over_block(sum, false));
    for (int i = threadIdx.x; i < x_1; i += 1024) out[blockIdx.x * x_1 + i] = in[i] - largest - shift;
}
launch: grid=(x_0), block=(1024)
