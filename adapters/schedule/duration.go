package schedule

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads a duration as Spring does: ISO 8601 (PT10S, PT4M, P1DT2H),
// Go's form (10s, 4m30s), or a number of milliseconds (10000). Years, months and
// negative durations are refused: they have no fixed length, or no meaning.
func ParseDuration(text string) (time.Duration, error) {
	d, ok := parseDuration(strings.TrimSpace(text))
	if !ok || d < 0 {
		return 0, fmt.Errorf("must be a duration such as PT10S, 10s or 10000 (milliseconds), is %q", text)
	}
	return d, nil
}

func parseDuration(text string) (time.Duration, bool) {
	if text == "" {
		return 0, false
	}
	if text[0] == 'P' || text[0] == 'p' {
		return parseISO(strings.ToUpper(text[1:]))
	}
	if text[0] < '0' || text[0] > '9' {
		return 0, false
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return times(float64(ms), time.Millisecond)
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// parseISO reads what follows the P: days, then after a T hours, minutes and
// seconds, each at most once and in this order; only seconds have a fraction.
func parseISO(text string) (total time.Duration, ok bool) {
	date, clock, timed := strings.Cut(text, "T")
	if timed && clock == "" || date+clock == "" {
		return 0, false
	}
	for _, part := range []struct {
		text  string
		units string
		sizes []time.Duration
	}{
		{date, "D", []time.Duration{24 * time.Hour}},
		{clock, "HMS", []time.Duration{time.Hour, time.Minute, time.Second}},
	} {
		d, ok := parseUnits(part.text, part.units, part.sizes)
		if !ok || total > math.MaxInt64-d {
			return 0, false
		}
		total += d
	}
	return total, true
}

func parseUnits(text, units string, sizes []time.Duration) (total time.Duration, ok bool) {
	for next := 0; text != ""; {
		end := strings.IndexAny(text, units)
		if end < 1 {
			return 0, false
		}
		unit := strings.IndexByte(units, text[end])
		if unit < next {
			return 0, false
		}
		next = unit + 1
		number := text[:end]
		if strings.Trim(number, "0123456789.") != "" || units[unit] != 'S' && strings.Contains(number, ".") {
			return 0, false
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return 0, false
		}
		d, ok := times(n, sizes[unit])
		if !ok || total > math.MaxInt64-d {
			return 0, false
		}
		total, text = total+d, text[end+1:]
	}
	return total, true
}

func times(n float64, unit time.Duration) (time.Duration, bool) {
	total := math.Round(n * float64(unit))
	return time.Duration(total), total < math.MaxInt64
}
