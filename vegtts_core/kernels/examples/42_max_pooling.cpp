// Windows are taken row by row, so that neighbouring outputs are computed together.
constexpr int H = x_2, W = x_3, OH = out_2, OW = out_3;

void kernel(const float* x, float* out) {
#pragma omp parallel for collapse(2) schedule(static)
    for (int plane = 0; plane < x_0 * x_1; plane++)
        for (int oy = 0; oy < OH; oy++) {
            const float* in = x + size_t(plane) * H * W;
            float* to = out + (size_t(plane) * OH + oy) * OW;
            for (int ox = 0; ox < OW; ox++) to[ox] = -INFINITY;
            for (int ky = 0; ky < kernel_size; ky++) {
                const int y = oy * stride - padding + ky * dilation;
                if (y < 0 || y >= H) continue;
                for (int kx = 0; kx < kernel_size; kx++)
                    for (int ox = 0; ox < OW; ox++) {
                        const int at = ox * stride - padding + kx * dilation;
                        if (at >= 0 && at < W) to[ox] = in[y * W + at] > to[ox] ? in[y * W + at] : to[ox];
                    }
            }
        }
}
