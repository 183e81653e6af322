package inbox

import (
	"cmp"
	"slices"
)

// span is a range of offsets or versions, from first up to, but not including,
// next, of a partition or an aggregate.
type span[K comparable] struct {
	of          K
	first, next int64
}

// join returns the spans that cover exactly what the given ones do, without any
// two that touch. compare orders what they are of.
func join[K comparable](spans []span[K], compare func(a, b K) int) []span[K] {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span[K]) int { return cmp.Or(compare(a.of, b.of), cmp.Compare(a.first, b.first)) })
	var joined []span[K]
	for _, s := range spans {
		if n := len(joined) - 1; n >= 0 && joined[n].of == s.of && s.first <= joined[n].next {
			joined[n].next = max(joined[n].next, s.next)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}
