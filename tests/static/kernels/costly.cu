// What the static check must notice: spills, an array in local memory, narrow copies.

// 64 numbers a thread, and registers for half of them.
__global__ void __launch_bounds__(1024) spills(float* data) {
  float values[64];
  for (int i = 0; i < 64; ++i) values[i] = data[i * 1024 + threadIdx.x];
  for (int round = 0; round < 3; ++round) {
    __syncthreads();
    for (int i = 0; i < 64; ++i) values[i] = values[i] * values[(i * 7 + 1) % 64] + data[round];
  }
  for (int i = 0; i < 64; ++i) data[i * 1024 + threadIdx.x] = values[i];
}

// Indexed by a number that the compiler does not know.
__global__ void local_array(const int* index, float* data) {
  float values[128];
  for (int i = 0; i < 128; ++i) values[i] = data[i] * data[i + 1];
  data[threadIdx.x] = values[index[threadIdx.x] & 127];
}

__global__ void narrow_copy(const float* in, float* out) { out[threadIdx.x] = in[threadIdx.x]; }

__global__ void wide_copy(const float4* in, float4* out) { out[threadIdx.x] = in[threadIdx.x]; }

__global__ void byte_copy(const unsigned char* in, unsigned char* out) { out[threadIdx.x] = in[threadIdx.x]; }
