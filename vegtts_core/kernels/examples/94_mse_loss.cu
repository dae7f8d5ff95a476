// Blocks leave their sums in device memory; the last one to finish adds them up and resets the counter.
constexpr int BLOCKS = 512;
__device__ double parts[BLOCKS];
__device__ unsigned int finished = 0;

__device__ double over_block(double value) {
    __shared__ double warps[8];
    for (int step = 16; step; step /= 2) value += __shfl_xor_sync(~0u, value, step);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0.0;
    for (int warp = 0; warp < 8; warp++) value += warps[warp];
    __syncthreads();
    return value;
}

__global__ void kernel(const float* predictions, const float* targets, float* out) {
    __shared__ bool last;
    double sum = 0.0;
    for (long long i = blockIdx.x * 256LL + threadIdx.x; i < predictions_n; i += BLOCKS * 256LL) {
        const float difference = predictions[i] - targets[i];
        sum += difference * difference;
    }
    sum = over_block(sum);
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = sum;
        __threadfence();
        last = atomicAdd(&finished, 1u) == BLOCKS - 1;
    }
    __syncthreads();
    if (!last) return;
    __threadfence();
    sum = 0.0;
    for (int i = threadIdx.x; i < BLOCKS; i += 256) sum += *(volatile double*)&parts[i];
    sum = over_block(sum);
    if (threadIdx.x == 0) {
        out[0] = float(sum / predictions_n);
        finished = 0;
    }
}
launch: grid=(512), block=(256)
