package config

import "testing"

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1": 1, "65536": 64 << 10, "4MiB": 4 << 20, "4 MiB": 4 << 20, "512KiB": 512 << 10, "2GiB": 2 << 30, "1000": 1000} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s is %d, %v", text, got, err)
		}
		if again, err := ParseSize(got.String()); err != nil || again != want {
			t.Errorf("%s is written %s", text, got)
		}
	}
	for _, text := range []string{"", "x", "MiB", "-1", "+1", "1.5MiB", "4MB", "4M", "4mib", "1e3", "99999999999GiB", "0x10"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}
