__global__ void kernel(const float* A, float s, float* out) {
    const long long i = blockIdx.x * 256LL + threadIdx.x;
    if (i < out_n / 4) {
        float4 v = reinterpret_cast<const float4*>(A)[i];
        v.x *= s, v.y *= s, v.z *= s, v.w *= s;
        reinterpret_cast<float4*>(out)[i] = v;
    }
    if (i < out_n % 4) out[out_n / 4 * 4 + i] = A[out_n / 4 * 4 + i] * s;
}
launch: grid=(cdiv(cdiv(out_n, 4), 256)), block=(256)
