// One filter per channel: nine products per output, a row of outputs at a time.
constexpr int C = x_1, H = x_2, W = x_3, OH = out_2, OW = out_3, SIZE = kernel_size;

void kernel(const float* x, const float* conv2d_weight, float* out) {
#pragma omp parallel for schedule(static)
    for (int plane = 0; plane < x_0 * C; plane++) {
        const float* weight = conv2d_weight + plane % C * SIZE * SIZE;
        for (int oy = 0; oy < OH; oy++) {
            float sum[OW] = {};
            for (int ky = 0; ky < SIZE; ky++) {
                const int y = oy * stride - padding + ky;
                if (y < 0 || y >= H) continue;
                const float* in = x + (size_t(plane) * H + y) * W;
                for (int kx = 0; kx < SIZE; kx++)
                    for (int ox = 0; ox < OW; ox++) {
                        const int at = ox * stride - padding + kx;
                        if (at >= 0 && at < W) sum[ox] += weight[ky * SIZE + kx] * in[at];
                    }
            }
            float* to = out + (size_t(plane) * OH + oy) * OW;
            for (int ox = 0; ox < OW; ox++) to[ox] = sum[ox];
        }
    }
}
