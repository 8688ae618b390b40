// The columns of a convolution, columns (M, kh kw, OH OW) of images x (M, H, W), M images times channels:
//
//     columns[m, (u, v), (i, j)] = x^p[m, i sh + u dh - top, j sw + v dw - left],    x^p = x, 0 outside the image,
//
// and the transpose of this map, which adds up. Positions inside an image are counted from its own corner, the zeros
// around it have negative positions or lie beyond H and W.

// Thread (m, i, j) copies one patch: neighbours write neighbouring numbers, and read them from the cache.
extern "C" __global__ void __launch_bounds__(THREADS)
im2col(const scalar* x, scalar* columns, long long images, long long height_, long long width_, long long down_,
       long long across_, long long kh_, long long kw_, long long sh_, long long sw_, long long dh_, long long dw_,
       long long top_, long long left_) {
  int height = (int)height_, width = (int)width_, kh = (int)kh_, kw = (int)kw_, dh = (int)dh_, dw = (int)dw_;
  unsigned across = (unsigned)across_, positions = (unsigned)down_ * across;  // OW and OH OW
  unsigned thread = blockIdx.x * THREADS + threadIdx.x;
  if (thread >= images * positions) return;
  unsigned m = thread / positions, p = thread % positions;
  int top = (int)(p / across) * (int)sh_ - (int)top_, left = (int)(p % across) * (int)sw_ - (int)left_;

  const scalar* image = x + (size_t)m * height * width;
  scalar* entry = columns + (size_t)m * kh * kw * positions + p;
  for (int u = 0; u < kh; ++u) {
    int h = top + u * dh;
    for (int v = 0; v < kw; ++v) {
      int w = left + v * dw;
      bool inside = h >= 0 && h < height && w >= 0 && w < width;
      *entry = inside ? image[(size_t)h * width + w] : (scalar)0;
      entry += positions;
    }
  }
}

// Thread (m, h, w) adds up what was copied from pixel (h, w): entry (u, v) of the patch at (i, j) with
// i sh + u dh - top = h and j sw + v dw - left = w. Every pixel is written by one thread, in one order.
extern "C" __global__ void __launch_bounds__(THREADS)
col2im(const scalar* columns, scalar* x, long long images, long long height_, long long width_, long long down_,
       long long across_, long long kh_, long long kw_, long long sh_, long long sw_, long long dh_, long long dw_,
       long long top_, long long left_) {
  int width = (int)width_, down = (int)down_, across = (int)across_, kh = (int)kh_, kw = (int)kw_;
  int sh = (int)sh_, sw = (int)sw_, dh = (int)dh_, dw = (int)dw_;
  unsigned pixels = (unsigned)height_ * (unsigned)width_;
  unsigned thread = blockIdx.x * THREADS + threadIdx.x;
  if (thread >= images * pixels) return;
  unsigned m = thread / pixels, q = thread % pixels;
  int h = (int)(q / width) + (int)top_, w = (int)(q % width) + (int)left_;  // in the padded image

  size_t positions = (size_t)down * across;
  const scalar* entries = columns + (size_t)m * kh * kw * positions;
  scalar sum = 0;
  for (int u = 0; u < kh; ++u) {
    int i = h - u * dh;
    if (i < 0 || i % sh != 0 || i / sh >= down) continue;
    for (int v = 0; v < kw; ++v) {
      int j = w - v * dw;
      if (j < 0 || j % sw != 0 || j / sw >= across) continue;
      sum += entries[(u * kw + v) * positions + (size_t)(i / sh) * across + j / sw];
    }
  }
  x[thread] = sum;
}
