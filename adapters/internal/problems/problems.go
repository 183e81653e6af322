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

// Add adds err as a problem with field, if it is not nil. Errors that err joins
// become problems of their own.
func (l *List) Add(field string, err error) {
	for _, e := range parts(err) {
		l.errs = append(l.errs, fmt.Errorf("%s: %w", field, e))
	}
}

// parts are the errors that err joins, or err alone.
func parts(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); errors.Join(all...).Error() == err.Error() {
			return all
		}
	}
	return []error{err}
}

// AddAll adds err as it is, if it is not nil: problems that name their fields.
func (l *List) AddAll(err error) {
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

// Err returns the problems, each on a line of its own, or nil if there is none.
func (l *List) Err() error { return errors.Join(l.errs...) }

// AtLeast adds a problem unless value is limit or more.
func AtLeast[T cmp.Ordered](l *List, field string, value, limit T) {
	l.Unless(value >= limit, field, "must be at least %v, is %v", limit, value)
}

// Within adds a problem unless value is in [lower, upper].
func Within[T cmp.Ordered](l *List, field string, value, lower, upper T) {
	l.Unless(value >= lower && value <= upper, field, "must be within %v and %v, is %v", lower, upper, value)
}

// Positive adds a problem unless value is above zero.
func Positive[T cmp.Ordered](l *List, field string, value T) {
	var zero T
	l.Unless(value > zero, field, "must be positive, is %v", value)
}

// NotNil adds a problem with a required argument that is nil. present tells that
// it is not.
func NotNil(l *List, field string, present bool) {
	l.Unless(present, field, "must not be nil")
}
