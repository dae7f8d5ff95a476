__global__ void kernel(const float* x, float* out) {
    const long long i = blockIdx.x * 256LL + threadIdx.x;
    if (i < out_n) out[i] = x[i] / (1.0f + expf(-x[i]));
}
launch: grid=(cdiv(out_n, 256)), block=(256)
