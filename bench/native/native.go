//go:build blas && cgo && amd64 && linux

// Package native holds what the toolkit is measured against, in C: an installed OpenBLAS, and the two ceilings of the core.
// It is built with -tags blas only, and needs Debian's libopenblas-dev or the like.
package native

/*
#cgo CFLAGS: -O3
#cgo LDFLAGS: -lopenblas
#include <cblas.h>
#include <immintrin.h>
#include <stddef.h>
void openblas_set_num_threads(int n);
char *openblas_get_corename(void);

// Twelve independent chains of fused multiply-adds hide the latency of any core so far; 16 lanes of 2 operations each.
__attribute__((target("avx512f"))) static float fma512(long n) {
	__m512 acc[12], x = _mm512_set1_ps(0.999999f), y = _mm512_set1_ps(1e-6f);
	for (int i = 0; i < 12; i++) acc[i] = _mm512_set1_ps((float)i);
	for (long k = 0; k < n; k++) {
#pragma GCC unroll 12
		for (int i = 0; i < 12; i++) acc[i] = _mm512_fmadd_ps(acc[i], x, y);
	}
	__m512 s = acc[0];
	for (int i = 1; i < 12; i++) s = _mm512_add_ps(s, acc[i]);
	return _mm512_reduce_add_ps(s);
}

__attribute__((target("avx2,fma"))) static float fma256(long n) {
	__m256 acc[12], x = _mm256_set1_ps(0.999999f), y = _mm256_set1_ps(1e-6f);
	for (int i = 0; i < 12; i++) acc[i] = _mm256_set1_ps((float)i);
	for (long k = 0; k < n; k++) {
#pragma GCC unroll 12
		for (int i = 0; i < 12; i++) acc[i] = _mm256_fmadd_ps(acc[i], x, y);
	}
	float out[8];
	for (int i = 1; i < 12; i++) acc[0] = _mm256_add_ps(acc[0], acc[i]);
	_mm256_storeu_ps(out, acc[0]);
	return out[0];
}

static int has512(void) { return __builtin_cpu_supports("avx512f"); }

__attribute__((target("avx2"))) static float readall(const float *x, size_t n) {
	__m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
	for (size_t i = 0; i + 32 <= n; i += 32) {
		a = _mm256_add_ps(a, _mm256_loadu_ps(x + i));
		b = _mm256_add_ps(b, _mm256_loadu_ps(x + i + 8));
		c = _mm256_add_ps(c, _mm256_loadu_ps(x + i + 16));
		d = _mm256_add_ps(d, _mm256_loadu_ps(x + i + 24));
	}
	float out[8];
	_mm256_storeu_ps(out, _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
	return out[0];
}
*/
import "C"

import "unsafe"

// Sgemm computes C = op(A)·op(B) + beta·C by OpenBLAS, row-major, on a number of threads. Its arguments are those of blas.Gemm.
func Sgemm(threads int, ta, tb bool, m, n, k int, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	C.openblas_set_num_threads(C.int(threads))
	op := func(t bool) C.enum_CBLAS_TRANSPOSE {
		if t {
			return C.CblasTrans
		}
		return C.CblasNoTrans
	}
	C.cblas_sgemm(C.CblasRowMajor, op(ta), op(tb), C.blasint(m), C.blasint(n), C.blasint(k), 1,
		(*C.float)(unsafe.Pointer(&a[0])), C.blasint(lda), (*C.float)(unsafe.Pointer(&b[0])), C.blasint(ldb), C.float(beta),
		(*C.float)(unsafe.Pointer(&c[0])), C.blasint(ldc))
}

// Core is the kernel that OpenBLAS chose, which the variable OPENBLAS_CORETYPE overrides.
func Core() string { return C.GoString(C.openblas_get_corename()) }

// FMA runs n rounds of fused multiply-adds on one core and returns how many floating-point operations that was.
func FMA(n int) float64 {
	if C.has512() != 0 {
		sink = C.fma512(C.long(n))
		return float64(n) * 12 * 16 * 2
	}
	sink = C.fma256(C.long(n))
	return float64(n) * 12 * 8 * 2
}

// Read reads x once.
func Read(x []float32) { sink = C.readall((*C.float)(unsafe.Pointer(&x[0])), C.size_t(len(x))) }

var sink C.float
