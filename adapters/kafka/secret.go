package kafka

import (
	"fmt"
	"log/slog"
)

// Secret is a password or key. It prints, marshals and logs as "[redacted]";
// only string(s) returns its value. An empty Secret prints as "".
type Secret string

const redacted = "[redacted]"

// String returns "[redacted]", or "" if the secret is empty.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// Format redacts under every verb, including those that show a value's parts.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// MarshalText redacts in JSON, YAML and XML.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue redacts in structured logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }
