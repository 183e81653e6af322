package consumer

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/millrace-go/millrace/adapters/consumer/deadletter"
	"github.com/millrace-go/millrace/adapters/consumer/internal/failure"
)

// Sentinels of failures that no retry can fix. Wrap them with %w.
var (
	ErrDecode     = errors.New("undecodable message")
	ErrSchema     = errors.New("unknown schema")
	ErrValidation = errors.New("invalid message")
)

var (
	// ErrUnavailable marks the failure of a dependency that cannot be reached, for
	// IsUnavailable. Wrap it with %w.
	ErrUnavailable = errors.New("dependency unavailable")
	// ErrTimeout is what errors.Is finds in the error of a handler that was still
	// at work when its time ran out.
	ErrTimeout = errors.New("handler timed out")
	// ErrUnfinished means that the delivery's context ended before a verdict: the
	// message will be delivered again. It is a context.Canceled.
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

// Fatal marks err as one that no retry can fix: the message becomes a dead
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

// IsUnavailable reports failures that say nothing about the message, because a
// server could not be reached: ErrUnavailable, network errors, closed connections,
// and what a Postgres server answers that has no connection to give or is shutting
// down (SQLSTATE 08..., 53..., 57P...). A host name that does not exist is not among
// them, as it may come from the message, nor is a handler that used up its own time
// (ErrTimeout): give clients shorter timeouts than handlers have.
func IsUnavailable(err error) bool {
	if errors.Is(err, ErrTimeout) {
		return false
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, io.EOF) {
		return true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return false
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	var server interface{ SQLState() string }
	if !errors.As(err, &server) {
		return false
	}
	code := server.SQLState()
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P")
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

// handlerError strips what this package wrapped around the handler's error.
func handlerError(err error) error {
	for {
		switch e := err.(type) { //nolint:errorlint // only the outermost layers are ours to strip
		case *failure.Error:
			err = e.Err
		case *verdictError:
			err = e.err
		default:
			return err
		}
	}
}

func dispositionOf(err error, v Verdict) deadletter.Disposition {
	_, panicked := errors.AsType[*PanicError](err)
	switch {
	case panicked:
		return deadletter.DispositionPanic
	case v == VerdictFatal && (errors.Is(err, ErrDecode) || errors.Is(err, ErrSchema)):
		return deadletter.DispositionDecode
	case v == VerdictFatal:
		return deadletter.DispositionFatal
	case errors.Is(err, ErrTimeout):
		return deadletter.DispositionTimeout
	default:
		return deadletter.DispositionExhausted
	}
}

// unfinished reports that a failure under ctx says nothing about the message.
func unfinished(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, ErrUnfinished)
}
