package consumer

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
	// Offsets from FromOffset up to, but not including, ToOffset; 0 is open.
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
	// States, any of them; they are known once the letter was compared with what
	// was done before.
	States []State
	// Since and Until bound the time of the failure; Until is excluded.
	Since, Until time.Time
}

// Match reports whether the filter chooses l.
func (f *Filter) Match(l *Letter) bool {
	switch {
	case len(f.Partitions) > 0 && !slices.Contains(f.Partitions, l.Record.Partition),
		l.Record.Offset < f.FromOffset,
		f.ToOffset > 0 && l.Record.Offset >= f.ToOffset,
		f.Key != nil && !bytes.Equal(f.Key, l.Record.Key),
		f.Group != "" && f.Group != l.Group,
		len(f.Dispositions) > 0 && !slices.Contains(f.Dispositions, l.Disposition),
		f.Error != "" && !strings.Contains(l.Error, f.Error) && !strings.Contains(l.ErrorType, f.Error),
		f.ErrorPattern != nil && !f.ErrorPattern.MatchString(l.Error),
		len(f.States) > 0 && !slices.Contains(f.States, l.State),
		!f.Since.IsZero() && l.FailedAt.Before(f.Since),
		!f.Until.IsZero() && !l.FailedAt.Before(f.Until):
		return false
	}
	return true
}
