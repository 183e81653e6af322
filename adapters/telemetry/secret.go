package telemetry

import (
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// Secret is text that must not reach a log, an error or a dump: every common way
// of printing it yields a mask. Reveal gives the text to those who need it.
type Secret string

// Reveal returns the text itself.
func (s Secret) Reveal() string { return string(s) }

// String masks the text; an empty secret stays empty, so that a missing one shows.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format masks the text for every verb of package fmt.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue masks the text for slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText masks the text for JSON, YAML and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
