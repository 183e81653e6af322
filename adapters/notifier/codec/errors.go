package codec

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknownEvent is what errors.Is finds in every UnknownEventError.
	ErrUnknownEvent = errors.New("unknown event")
	// ErrPayload is what errors.Is finds in every PayloadError.
	ErrPayload = errors.New("undecodable event")
)

// UnknownEventError means that there is no schema for an event: it is newer than
// this program, or none of ours.
type UnknownEventError struct {
	Type    string // wire name, or Go type when encoding; may be empty
	Version string // as the header had it, may be empty
}

func (e *UnknownEventError) Error() string {
	return fmt.Sprintf("unknown event: type %q schema version %q", e.Type, e.Version)
}

// Unwrap makes errors.Is(err, ErrUnknownEvent) hold.
func (e *UnknownEventError) Unwrap() error { return ErrUnknownEvent }

// PayloadError means that a message does not have the form its schema asks for.
type PayloadError struct {
	Type    string
	Version int
	Err     error // what is wrong
}

func (e *PayloadError) Error() string {
	return fmt.Sprintf("undecodable event: %s version %d: %v", e.Type, e.Version, e.Err)
}

// Unwrap returns the sentinel and the cause.
func (e *PayloadError) Unwrap() []error { return []error{ErrPayload, e.Err} }
