package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Sentinels of failures that no retry can heal. Wrap them with %w.
var (
	ErrDecode     = errors.New("undecodable message")
	ErrSchema     = errors.New("unknown schema")
	ErrValidation = errors.New("invalid message")
)

var (
	// ErrTimeout is what errors.Is finds in the error of a handler that was still
	// at work when its time ran out.
	ErrTimeout = errors.New("handler timed out")
	// ErrUnfinished means that the delivery's context ended before a verdict: the
	// message is left to whoever gets it next. It is a context.Canceled.
	ErrUnfinished = fmt.Errorf("delivery left unfinished: %w", context.Canceled)
)

// Verdict says what to do with a failed delivery.
type Verdict int

// The verdicts. The zero value retries.
const (
	VerdictRetry Verdict = iota
	VerdictFatal
)

type verdictError struct {
	err     error
	verdict Verdict
}

func (e *verdictError) Error() string { return e.err.Error() }
func (e *verdictError) Unwrap() error { return e.err }

// Fatal marks err as one that no retry can heal: the message becomes a dead
// letter at once. Fatal(nil) is nil.
func Fatal(err error) error { return mark(err, VerdictFatal) }

// Retryable marks err as worth a retry, whatever it wraps. Of several marks the
// outermost counts. Retryable(nil) is nil.
func Retryable(err error) error { return mark(err, VerdictRetry) }

func mark(err error, v Verdict) error {
	if err == nil {
		return nil
	}
	return &verdictError{err: err, verdict: v}
}

// Classify is the default verdict: the outermost mark if there is one; fatal for
// panics, ErrDecode, ErrSchema and ErrValidation; retry for the rest.
func Classify(err error) Verdict {
	if v, ok := errors.AsType[*verdictError](err); ok {
		return v.verdict
	}
	if _, ok := errors.AsType[*PanicError](err); ok || isContentError(err) {
		return VerdictFatal
	}
	return VerdictRetry
}

func isContentError(err error) bool {
	return errors.Is(err, ErrDecode) || errors.Is(err, ErrSchema) || errors.Is(err, ErrValidation)
}

// PanicError is the error of a handler that panicked. It is fatal.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// FailureError is what Retry returns for a delivery that was given up.
type FailureError struct {
	Attempts    int // deliveries to the handler, the first one included
	Disposition Disposition
	Err         error // of the last attempt
}

func (e *FailureError) Error() string {
	return fmt.Sprintf("%s after %d attempts: %v", e.Disposition, e.Attempts, e.Err)
}

// Unwrap returns the error of the last attempt.
func (e *FailureError) Unwrap() error { return e.Err }

// Disposition says why a message became a dead letter; it is the value of the
// header dlt-disposition.
type Disposition string

// The dispositions.
const (
	DispositionDecode      Disposition = "decode"    // ErrDecode or ErrSchema
	DispositionFatal       Disposition = "fatal"     // any other fatal verdict
	DispositionExhausted   Disposition = "exhausted" // retries used up
	DispositionPanic       Disposition = "panic"
	DispositionTimeout     Disposition = "timeout"     // retries used up, the last attempt timed out
	DispositionQuarantined Disposition = "quarantined" // waits behind a dead letter of its key, see package quarantine
)

func dispositionOf(err error, v Verdict) Disposition {
	_, panicked := errors.AsType[*PanicError](err)
	switch {
	case panicked:
		return DispositionPanic
	case v == VerdictFatal && (errors.Is(err, ErrDecode) || errors.Is(err, ErrSchema)):
		return DispositionDecode
	case v == VerdictFatal:
		return DispositionFatal
	case errors.Is(err, ErrTimeout):
		return DispositionTimeout
	default:
		return DispositionExhausted
	}
}

// unfinished reports that a failure under ctx says nothing about the message.
func unfinished(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, ErrUnfinished)
}

// patience is the longest wait that a router's stop lets come to its end.
const patience = time.Second

// sleep waits for d and reports true, or false as soon as ctx ends or, if d is
// longer than patience, the router that delivered the message stops.
func sleep(ctx context.Context, d time.Duration) bool {
	stop := deliveryFrom(ctx).stop
	if d <= patience {
		stop = nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	case <-stop:
		return false
	}
}
