package pool

// BlockElements is about 1 µs of an elementwise loop over what is in the caches, several of one over what is not: above the cost
// of a join with a worker that spins.
const BlockElements = 1 << 12

// Grain returns how many items of a size, in elements, make a block worth handing to another thread.
func Grain(size int) int { return max(1, BlockElements/max(size, 1)) }

// Evenly returns the size of the equal parts of n that are not much above the limit. The size is a multiple of the last argument.
func Evenly(n, limit, multiple int) int {
	return RoundUp(CeilDiv(n, CeilDiv(n, limit)), multiple)
}

// RoundUp returns n rounded up to a multiple.
func RoundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

// CeilDiv returns n/d, rounded up.
func CeilDiv(n, d int) int { return (n + d - 1) / d }
