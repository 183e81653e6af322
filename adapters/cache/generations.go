package cache

import "slices"

// Generations names the generations of a view that can be rebuilt while it answers
// (see package rebuild). The name of a generation is a part of the view's keys. A
// view that is never rebuilt has none: the zero value.
type Generations struct {
	// Live is the generation that answers.
	Live string
	// Next is the generation that is being built; empty if there is none.
	Next string
	// Last is the generation that answered before Live. It is kept for a moment, for
	// readers that have not yet learned of the change; empty if there is none.
	Last string
}

// Written returns the generations that every write goes to, the newest first: a
// reader that changes from one to the next must find there what it has seen before.
func (g Generations) Written() []string { return present(g.Next, g.Live, g.Last) }

// Filled returns the generations that a reader fills, the one that it read first.
// What it fills in may be newer than any event that was applied so far, so the next
// generation must get it too.
func (g Generations) Filled() []string { return present(g.Live, g.Next) }

func present(names ...string) []string {
	return slices.DeleteFunc(names, func(s string) bool { return s == "" })
}
