package admin

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A plot is a picture of a series, one unit wide for each sample and plotHeight
// units high. What is before the first sample stays empty, which is not the
// same as nothing having happened.
type plot struct {
	Requests, Errors string // outlines, as the d of an SVG path
	Start            int    // where the first sample begins
	Top              uint64 // the most requests in one sample
	Points           string // "x:requests:errors" of each sample that is not empty, for the readout
	End              string // when the last sample ends
}

const plotHeight = 32

func newPlot(times []time.Time, s series) plot {
	if len(times) == 0 {
		return plot{Start: slots}
	}
	columns := make([]int, len(times))
	for i, t := range times {
		age := times[len(times)-1].Sub(t).Round(sampleInterval)
		columns[i] = slots - 1 - int(age/sampleInterval)
	}
	top := slices.Max(s.Requests)
	return plot{
		Requests: steps(columns, s.Requests, top),
		Errors:   steps(columns, s.Errors, top),
		Start:    max(0, columns[0]),
		Top:      top,
		Points:   points(columns, s),
		End:      times[len(times)-1].Format(time.RFC3339),
	}
}

// steps outlines a bar for each value but 0. Each stands for itself: a line
// from one to the next would show requests between them that never were.
func steps(columns []int, values []uint64, top uint64) string {
	var b strings.Builder
	for i, v := range values {
		if v == 0 || columns[i] < 0 {
			continue
		}
		// A single error beside a thousand requests must still be seen.
		height := max(1.5, float64(v)/float64(top)*(plotHeight-1))
		y := strconv.FormatFloat(plotHeight-height, 'f', 1, 64)
		fmt.Fprintf(&b, "M%d %dV%sh1V%dz", columns[i], plotHeight, y, plotHeight)
	}
	return b.String()
}

func points(columns []int, s series) string {
	var all []string
	for i, n := range s.Requests {
		if n > 0 && columns[i] >= 0 {
			all = append(all, fmt.Sprintf("%d:%d:%d", columns[i], n, s.Errors[i]))
		}
	}
	return strings.Join(all, " ")
}
