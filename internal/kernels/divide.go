package kernels

func roundUp(n, multiple int) int { return (n + multiple - 1) / multiple * multiple }

// evenly returns the size, a multiple, of the equal parts of n that are not much above the limit.
func evenly(n, limit, multiple int) int {
	return roundUp(ceilDiv(n, ceilDiv(n, limit)), multiple)
}

func ceilDiv(n, d int) int { return (n + d - 1) / d }

// grainFor is how many items of the given size make a block worth handing to another thread.
func grainFor(size int) int { return max(1, blockElements/max(size, 1)) }

// blockElements is about 1 µs of an elementwise loop over what is in the caches, several of one over what is not: above the cost
// of a join with a worker that spins.
const blockElements = 1 << 12
