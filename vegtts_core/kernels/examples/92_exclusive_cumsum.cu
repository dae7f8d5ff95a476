// A block takes a row, 1024 numbers at a time: sums within warps by shuffles, over warps in shared memory.
__global__ void kernel(const float* x, float* out) {
    __shared__ double warps[32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    double before = 0.0;
    for (long long start = 0; start < out_1; start += 1024) {
        const long long i = start + threadIdx.x;
        const double own = i < x_1 ? x[blockIdx.x * x_1 + i] : 0.0f;
        double sum = own;
        for (int step = 1; step < 32; step *= 2) {
            const double left = __shfl_up_sync(~0u, sum, step);
            if (lane >= step) sum += left;
        }
        if (lane == 31) warps[warp] = sum;
        __syncthreads();
        double earlier = 0.0, all = 0.0;
        for (int other = 0; other < 32; other++) {
            if (other < warp) earlier += warps[other];
            all += warps[other];
        }
        if (i < out_1) out[blockIdx.x * out_1 + i] = float(before + earlier + sum - own);
        before += all;
        __syncthreads();
    }
}
launch: grid=(out_0), block=(1024)
