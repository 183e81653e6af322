package bench

import (
	"math"
	"slices"
)

// Spread is one figure over the rounds.
type Spread struct {
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	Rounds []float64 `json:"rounds"`
}

func (s *Spread) add(figure float64) {
	s.Rounds = append(s.Rounds, figure)
	sorted := slices.Sorted(slices.Values(s.Rounds))
	s.Min, s.Max = sorted[0], sorted[len(sorted)-1]
	s.Median = round3((sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2)
}

// ratio is the median of a by that of b, and 0 if there is none.
func ratio(a, b Spread) float64 {
	if b.Median == 0 {
		return 0
	}
	return round3(a.Median / b.Median)
}

// paired is the ratio of a to b within each round.
func paired(a, b Spread) (s Spread) {
	for i := range min(len(a.Rounds), len(b.Rounds)) {
		if b.Rounds[i] > 0 {
			s.add(round3(a.Rounds[i] / b.Rounds[i]))
		}
	}
	return s
}

func round1(f float64) float64 { return math.Round(f*10) / 10 }
func round2(f float64) float64 { return math.Round(f*100) / 100 }
func round3(f float64) float64 { return math.Round(f*1000) / 1000 }
