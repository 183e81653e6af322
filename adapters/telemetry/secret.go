package telemetry

import "github.com/millrace-go/millrace/adapters/internal/secret"

// Secret is text that must not reach a log, an error or a dump: it prints, marshals
// and logs as "[redacted]". Its method Reveal returns the text.
type Secret = secret.Text
