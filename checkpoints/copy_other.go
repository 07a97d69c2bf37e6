//go:build !linux

package checkpoints

import "os"

// copyFileRange says that this system copies nothing by itself.
func copyFileRange(*os.File, int64, *os.File, int64, int64) int64 { return 0 }
