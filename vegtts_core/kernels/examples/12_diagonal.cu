// diag(A) @ B scales every row of B: no matrix of zeros, no product.
__global__ void kernel(const float* A, const float* B, float* out) {
    const float scale = A[blockIdx.x];
    const long long start = blockIdx.x * B_1;
    for (int column = threadIdx.x; column < B_1; column += 256) out[start + column] = scale * B[start + column];
}
launch: grid=(B_0), block=(256)
