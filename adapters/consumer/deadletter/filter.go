package deadletter

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Filter chooses dead letters; every field that is set must match. The zero value
// matches all.
type Filter struct {
	// Partitions of the dead-letter topic.
	Partitions []int32
	// Offsets of at least FromOffset and less than ToOffset; 0 is no bound.
	FromOffset, ToOffset int64
	// Key is the whole record key; nil matches all.
	Key []byte
	// Group is the consumer group that failed.
	Group string
	// Dispositions, any of them.
	Dispositions []Disposition
	// Error is a part of the error message or of its type.
	Error string
	// ErrorPattern matches the error message.
	ErrorPattern *regexp.Regexp
	// States, any of them.
	States []State
	// The failure happened at Since or later, and before Until.
	Since, Until time.Time
}

// matches reports whether the filter chooses m, whose state is known.
func (f *Filter) matches(m *Message) bool {
	switch {
	case len(f.Partitions) > 0 && !slices.Contains(f.Partitions, m.Record.Partition),
		m.Record.Offset < f.FromOffset,
		f.ToOffset > 0 && m.Record.Offset >= f.ToOffset,
		f.Key != nil && !bytes.Equal(f.Key, m.Record.Key),
		f.Group != "" && f.Group != m.Group,
		len(f.Dispositions) > 0 && !slices.Contains(f.Dispositions, m.Disposition),
		f.Error != "" && !strings.Contains(m.Error, f.Error) && !strings.Contains(m.ErrorType, f.Error),
		f.ErrorPattern != nil && !f.ErrorPattern.MatchString(m.Error),
		len(f.States) > 0 && !slices.Contains(f.States, m.State),
		!f.Since.IsZero() && m.FailedAt.Before(f.Since),
		!f.Until.IsZero() && !m.FailedAt.Before(f.Until):
		return false
	}
	return true
}
