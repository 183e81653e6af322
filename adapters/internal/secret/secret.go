// Package secret has the text that must not reach a log, an error or a dump.
package secret

import (
	"fmt"
	"log/slog"
)

// Text is a password or key. It prints, marshals and logs as "[redacted]"; only
// Reveal, or a conversion to string, returns its value. An empty Text prints as "",
// so that a missing one shows.
type Text string

const redacted = "[redacted]"

// Reveal returns the text itself.
func (t Text) Reveal() string { return string(t) }

// String returns "[redacted]", or "" if the text is empty.
func (t Text) String() string {
	if t == "" {
		return ""
	}
	return redacted
}

// Format redacts under every verb, including those that show a value's parts.
func (t Text) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// MarshalText redacts in JSON, YAML and XML.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue redacts in structured logs.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }
