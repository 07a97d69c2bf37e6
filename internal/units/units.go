// Package units formats numbers for people.
package units

import (
	"math"
	"strconv"
	"strings"
)

// Bytes formats a number of bytes with a binary unit: 1.5 KiB.
func Bytes(n int64) string { return in(n, 1024, " B", " KiB", " MiB", " GiB", " TiB", " PiB") }

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
