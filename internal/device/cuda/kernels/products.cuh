// Products y [rows, n] = x·wᵀ of few rows x [rows, k] by weights w [n, k]: the time is that of reading the weights. Up to four
// products with the same x are computed by one launch.

struct Products {
  struct {
    act_t* y;
    const void* w;
    i64 n;
  } of[4];
};
