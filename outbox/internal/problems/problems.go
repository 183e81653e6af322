// Package problems collects what is wrong with a configuration, so that all of it
// is reported at once: the field, what it must be, and what it is.
package problems

import (
	"cmp"
	"errors"
	"fmt"
)

// List holds the problems found so far. The zero value is empty.
type List struct{ errs []error }

// Unless adds a problem with field unless ok: "field: problem".
func (l *List) Unless(ok bool, field, format string, args ...any) {
	if !ok {
		l.errs = append(l.errs, fmt.Errorf(field+": "+format, args...))
	}
}

// AddAll adds err as it is, if it is not nil: problems that name their fields.
func (l *List) AddAll(err error) {
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

// NotNil adds a problem with a required argument that is not present.
func (l *List) NotNil(field string, present bool) {
	l.Unless(present, field, "must not be nil")
}

// Err returns the problems, each on a line of its own, or nil if there are none.
func (l *List) Err() error { return errors.Join(l.errs...) }

// AtLeast adds a problem unless value is limit or more.
func AtLeast[T cmp.Ordered](l *List, field string, value, limit T) {
	l.Unless(value >= limit, field, "must be at least %v, is %v", limit, value)
}

// Positive adds a problem unless value is above zero.
func Positive[T cmp.Ordered](l *List, field string, value T) {
	var zero T
	l.Unless(value > zero, field, "must be positive, is %v", value)
}
