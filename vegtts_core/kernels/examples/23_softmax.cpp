// One thread takes a row: its maximum, then exponentials and their sum, then the division.
void kernel(const float* x, float* out) {
#pragma omp parallel for schedule(static)
    for (int row = 0; row < x_0; row++) {
        const float* in = x + row * x_1;
        float* to = out + row * x_1;
        float largest = -INFINITY, sum = 0.0f;
#pragma omp simd reduction(max : largest)
        for (int i = 0; i < x_1; i++) largest = in[i] > largest ? in[i] : largest;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < x_1; i++) sum += to[i] = expf(in[i] - largest);
        const float scale = 1.0f / sum;
        for (int i = 0; i < x_1; i++) to[i] *= scale;
    }
}
