__global__ void kernel(const float* x, float* out) {
    const long long i = blockIdx.x * 256LL + threadIdx.x;
    if (i >= out_n) return;
    const float v = x[i];
    out[i] = 0.5f * v * (1.0f + tanhf(0.7978845608f * (v + 0.044715f * v * v * v)));
}
launch: grid=(cdiv(out_n, 256)), block=(256)
