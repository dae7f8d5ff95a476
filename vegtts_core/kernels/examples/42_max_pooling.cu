constexpr int H = x_2, W = x_3, OH = out_2, OW = out_3;

__global__ void kernel(const float* x, float* out) {
    const int ox = blockIdx.x * 32 + threadIdx.x, oy = blockIdx.y * 8 + threadIdx.y;
    if (ox >= OW || oy >= OH) return;
    for (long long plane = blockIdx.z; plane < x_0 * x_1; plane += gridDim.z) {
        float largest = -INFINITY;
        for (int ky = 0; ky < kernel_size; ky++)
            for (int kx = 0; kx < kernel_size; kx++) {
                const int y = oy * stride - padding + ky * dilation, at = ox * stride - padding + kx * dilation;
                if (y >= 0 && y < H && at >= 0 && at < W) largest = fmaxf(largest, x[(plane * H + y) * W + at]);
            }
        out[(plane * OH + oy) * OW + ox] = largest;
    }
}
launch: grid=(cdiv(out_3, 32), cdiv(out_2, 8), min(out_0 * out_1, 65535)), block=(32, 8)
