package config

import (
	"fmt"
	"strconv"
	"strings"
)

// A Size is a number of bytes.
type Size int64

var units = []struct {
	suffix string
	bytes  Size
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

// ParseSize reads a number of bytes, such as 4MiB, 512KiB or 65536. It takes no
// MB: half of its users mean 10^6 by it, the other half 2^20.
func ParseSize(text string) (Size, error) {
	number, unit := text, Size(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.suffix); ok {
			number, unit = strings.TrimSpace(n), u.bytes
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is not a size: write bytes, or a whole number of KiB, MiB or GiB, such as 4MiB", show(text))
	}
	return Size(n) * unit, nil
}

func (s Size) String() string {
	for _, u := range units {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
