package domain

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrNotFound means that there is no such aggregate.
	ErrNotFound = errors.New("not found")
	// ErrVersionConflict means that somebody else changed the aggregate since it
	// was read. Nothing was written; read it again and decide again.
	ErrVersionConflict = errors.New("changed by someone else in the meantime")
	// ErrDuplicate means that an aggregate with this identity already exists.
	ErrDuplicate = errors.New("already exists")
	// ErrReference means that something this write refers to does not exist, or
	// is still referred to.
	ErrReference = errors.New("refers to something that does not exist")
	// ErrIllegalAct is what errors.Is finds in every IllegalActError.
	ErrIllegalAct = errors.New("act not allowed in this state")
	// ErrInvalid is what errors.Is finds in every ValidationError.
	ErrInvalid = errors.New("invalid")
)

// IllegalActError refuses an act that the state of the aggregate does not allow.
// Trying again cannot help while the state stays.
type IllegalActError struct {
	Aggregate string // "notification"
	ID        string
	Act       string // "mark sent"
	State     string // "abandoned"
}

func (e *IllegalActError) Error() string {
	return fmt.Sprintf("cannot %s %s %s: it is %s", e.Act, e.Aggregate, e.ID, e.State)
}

// Unwrap makes errors.Is(err, ErrIllegalAct) hold.
func (e *IllegalActError) Unwrap() error { return ErrIllegalAct }

// FieldError tells what is wrong with one field and what would be right.
type FieldError struct {
	Field  string
	Reason string // "must be 1 to 256 bytes"
}

// ValidationError lists every field that is wrong, not only the first.
type ValidationError struct{ Fields []FieldError }

func (e *ValidationError) Error() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		parts[i] = f.Field + " " + f.Reason
	}
	return strings.Join(parts, "; ")
}

// Unwrap makes errors.Is(err, ErrInvalid) hold.
func (e *ValidationError) Unwrap() error { return ErrInvalid }

// Validation collects what is wrong with the fields of one input. The zero value
// is ready to use.
type Validation struct{ fields []FieldError }

// Check notes that field is wrong for reason unless ok holds.
func (v *Validation) Check(ok bool, field, reason string) {
	if !ok {
		v.fields = append(v.fields, FieldError{Field: field, Reason: reason})
	}
}

// Err returns a *ValidationError with everything noted, or nil.
func (v *Validation) Err() error {
	if len(v.fields) == 0 {
		return nil
	}
	return &ValidationError{Fields: v.fields}
}
