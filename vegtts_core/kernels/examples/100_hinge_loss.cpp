// The targets are one per column; they are broadcast over the rows.
void kernel(const float* predictions, const float* targets, float* out) {
    double total = 0.0;
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (int row = 0; row < predictions_0; row++) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < predictions_1; i++) {
            const float margin = 1.0f - predictions[row * predictions_1 + i] * targets[i];
            sum += margin > 0.0f ? margin : 0.0f;
        }
        total += sum;
    }
    out[0] = float(total / predictions_n);
}
