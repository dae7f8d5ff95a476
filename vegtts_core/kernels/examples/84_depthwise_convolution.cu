constexpr int C = x_1, H = x_2, W = x_3, OH = out_2, OW = out_3, SIZE = kernel_size;

__global__ void kernel(const float* x, const float* conv2d_weight, float* out) {
    __shared__ float weight[SIZE * SIZE];
    const int plane = blockIdx.z, thread = threadIdx.y * 32 + threadIdx.x;
    const int ox = blockIdx.x * 32 + threadIdx.x, oy = blockIdx.y * 8 + threadIdx.y;
    if (thread < SIZE * SIZE) weight[thread] = conv2d_weight[plane % C * SIZE * SIZE + thread];
    __syncthreads();
    if (ox >= OW || oy >= OH) return;
    float sum = 0.0f;
    for (int ky = 0; ky < SIZE; ky++)
        for (int kx = 0; kx < SIZE; kx++) {
            const int y = oy * stride - padding + ky, at = ox * stride - padding + kx;
            if (y >= 0 && y < H && at >= 0 && at < W)
                sum += weight[ky * SIZE + kx] * x[((long long)plane * H + y) * W + at];
        }
    out[((long long)plane * OH + oy) * OW + ox] = sum;
}
launch: grid=(cdiv(out_3, 32), cdiv(out_2, 8), out_0 * out_1), block=(32, 8)
