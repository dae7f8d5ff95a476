void kernel(const float* predictions, const float* targets, float* out) {
    double total = 0.0;
#pragma omp parallel for schedule(static) reduction(+ : total)
    for (int row = 0; row < predictions_0; row++) {
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < predictions_1; i++) {
            const float difference = predictions[row * predictions_1 + i] - targets[row * predictions_1 + i];
            sum += difference * difference;
        }
        total += sum;
    }
    out[0] = float(total / predictions_n);
}
