// Package units formats numbers for people, and reads sizes.
package units

import (
	"math"
	"strconv"
	"strings"
)

// Bytes formats a number of bytes with a binary unit: 1.5 KiB.
func Bytes(n int64) string { return in(n, 1024, " B", " KiB", " MiB", " GiB", " TiB", " PiB") }

// ParseBytes parses a size such as 5GB, 900MiB or 1000000, at least a byte; false if it is none.
func ParseBytes(s string) (n int64, ok bool) {
	units := []struct {
		suffix string
		factor float64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}, {"", 1}}
	for _, u := range units {
		number, found := strings.CutSuffix(strings.ToLower(s), strings.ToLower(u.suffix))
		if !found {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err == nil && v > 0 && v*u.factor < math.MaxInt64/2 && v*u.factor >= 1 {
			return int64(v * u.factor), true
		}
		break
	}
	return 0, false
}

// Count formats a number with a decimal unit: 3.7M.
func Count(n int64) string { return in(n, 1000, "", "k", "M", "B", "T") }

func in(n int64, base float64, units ...string) string {
	x, unit := float64(n), 0
	for math.Round(x) >= base && unit < len(units)-1 {
		x /= base
		unit++
	}
	return Significant(x) + units[unit]
}

// Significant formats x with three significant digits, without an exponent where that is readable.
func Significant(x float64) string {
	size := math.Abs(x)
	if size != 0 && (size < 1e-4 || size >= 1e7) {
		return strconv.FormatFloat(x, 'g', 3, 64)
	}
	digits := 2
	if size > 0 {
		digits = max(0, 2-int(math.Floor(math.Log10(size))))
	}
	text := strconv.FormatFloat(x, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}
