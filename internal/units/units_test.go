package units

import "testing"

func TestUnits(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Bytes(512), "512 B"},
		{Bytes(1536), "1.5 KiB"},
		{Bytes(1<<20 - 1), "1 MiB"},
		{Bytes(192 << 20), "192 MiB"},
		{Bytes(3 << 40), "3 TiB"},
		{Count(999), "999"},
		{Count(999_999), "1M"},
		{Count(3_700_000), "3.7M"},
		{Count(6_740_000_000), "6.74B"},
		{Significant(0), "0"},
		{Significant(0.01234), "0.0123"},
		{Significant(12.345), "12.3"},
		{Significant(1234.5), "1234"},
		{Significant(2.5e-7), "2.5e-07"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}
