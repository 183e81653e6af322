// Package hook fills and combines hooks, the funcs of a Hooks struct. A
// constructor fills them once, so that no call site asks whether one is nil.
package hook

// Fill0 makes a nil hook one that does nothing.
func Fill0(f *func()) {
	if *f == nil {
		*f = func() {}
	}
}

// Fill1 is Fill0 for a hook with one argument.
func Fill1[A any](f *func(A)) {
	if *f == nil {
		*f = func(A) {}
	}
}

// Fill2 is Fill0 for a hook with two arguments.
func Fill2[A, B any](f *func(A, B)) {
	if *f == nil {
		*f = func(A, B) {}
	}
}

// Tee0 returns a hook that calls first and then second, each unless it is nil.
func Tee0(first, second func()) func() {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func() { first(); second() }
}

// Tee1 is Tee0 for hooks with one argument.
func Tee1[A any](first, second func(A)) func(A) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(a A) { first(a); second(a) }
}

// Tee2 is Tee0 for hooks with two arguments.
func Tee2[A, B any](first, second func(A, B)) func(A, B) {
	switch {
	case first == nil:
		return second
	case second == nil:
		return first
	}
	return func(a A, b B) { first(a, b); second(a, b) }
}
