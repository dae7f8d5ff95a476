// diag(A) @ B scales every row of B: no matrix of zeros, no product.
void kernel(const float* A, const float* B, float* out) {
#pragma omp parallel for schedule(static)
    for (int row = 0; row < B_0; row++) {
        const float scale = A[row];
        for (int column = 0; column < B_1; column++)
            out[row * B_1 + column] = scale * B[row * B_1 + column];
    }
}
