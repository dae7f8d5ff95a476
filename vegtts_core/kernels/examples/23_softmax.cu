// A block takes a row: maximum and sum in one pass, each thread rescaling its sum when its maximum moves.
__device__ void merge(float& largest, float& sum, float other_largest, float other_sum) {
    const float both = fmaxf(largest, other_largest);
    if (both > -INFINITY) sum = sum * expf(largest - both) + other_sum * expf(other_largest - both);
    largest = both;
}

__global__ void kernel(const float* x, float* out) {
    __shared__ float maxima[32], sums[32];
    const float* in = x + blockIdx.x * x_1;
    float* to = out + blockIdx.x * x_1;
    float largest = -INFINITY, sum = 0.0f;
    for (int i = threadIdx.x; i < x_1; i += 1024) merge(largest, sum, in[i], 1.0f);
    for (int step = 16; step; step /= 2)
        merge(largest, sum, __shfl_xor_sync(~0u, largest, step), __shfl_xor_sync(~0u, sum, step));
    if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = largest, sums[threadIdx.x / 32] = sum;
    __syncthreads();
    largest = maxima[0], sum = sums[0];
    for (int warp = 1; warp < 32; warp++) merge(largest, sum, maxima[warp], sums[warp]);
    for (int i = threadIdx.x; i < x_1; i += 1024) to[i] = expf(in[i] - largest) / sum;
}
launch: grid=(x_0), block=(1024)
