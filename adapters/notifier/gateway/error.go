package gateway

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/millrace-go/millrace/app"
)

// Error is an answer that is not a delivery. Of app's verdicts, errors.Is finds the
// one that applies, if any.
type Error struct {
	// Status is the HTTP status.
	Status int
	// Reason is what the gateway said about it, in one line; it may be empty.
	Reason string
	// After is how long it asked to be left alone; 0 if it did not.
	After time.Duration

	verdict error
}

func (e *Error) Error() string {
	text := strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)
	if e.Reason != "" {
		text += ": " + e.Reason
	}
	if e.verdict != nil {
		return fmt.Sprintf("%v: %s", e.verdict, text)
	}
	return "gateway answered " + text
}

// Unwrap returns the verdict.
func (e *Error) Unwrap() error { return e.verdict }

// RetryAfter is for app.RetryAfter.
func (e *Error) RetryAfter() time.Duration { return e.After }

// verdictOn says what a status means; see the package comment.
func verdictOn(status int, remembered bool) error {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusTooEarly:
		return app.ErrNotNow
	case status == http.StatusUnauthorized, status == http.StatusProxyAuthRequired:
		return app.ErrUnavailable
	case status == http.StatusRequestTimeout, status == http.StatusConflict, status < 400, status >= 500:
		if remembered {
			return app.ErrKeySpent
		}
		return nil
	}
	return app.ErrRejected
}

// maxRetryAfter is the longest that a gateway can keep us away with one answer.
const maxRetryAfter = time.Hour

// retryAfter reads the header of RFC 9110: seconds, or a date.
func retryAfter(header string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(header, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), maxRetryAfter)
}

// maxReason bounds what is kept of an answer's body.
const maxReason = 256

// oneLine makes text of a foreign origin fit for logs.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxReason {
		s = strings.ToValidUTF8(s[:maxReason], "") + "…"
	}
	return s
}
