// Package topics checks topics that are to be created, before any I/O.
package topics

import (
	"errors"
	"fmt"
	"regexp"
	"time"
)

// Spec has the fields of kafka.Topic, which is converted to it.
type Spec struct {
	Name            string
	Partitions      int32
	Replicas        int16
	MaxMessageBytes int
	Retention       time.Duration
	NoDeadLetters   bool
}

const maxName = 249

var name = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// Validate returns everything that is wrong with all, joined. The fields are named
// as those of a list Topics. deadLetterSuffix is what dead-letter topics add to names.
func Validate(all []Spec, deadLetterSuffix string) error {
	var errs []error
	seen := map[string]bool{}
	for i, t := range all {
		unless := func(ok bool, field, format string, args ...any) {
			if !ok {
				errs = append(errs, fmt.Errorf(fmt.Sprintf("Topics[%d].%s: ", i, field)+format, args...))
			}
		}
		longest := maxName
		if !t.NoDeadLetters {
			longest -= len(deadLetterSuffix)
		}
		switch {
		case !name.MatchString(t.Name):
			unless(false, "Name", "must be 1 to %d characters of [A-Za-z0-9._-], is %q", maxName, t.Name)
		case len(t.Name) > longest:
			unless(false, "Name", "must be at most %d characters, as its dead-letter topic adds %q, is %d", longest, deadLetterSuffix, len(t.Name))
		default:
			unless(!seen[t.Name], "Name", "must be unique, is %q", t.Name)
		}
		seen[t.Name] = true
		unless(t.Partitions >= 0, "Partitions", "must be at least 1, is %d", t.Partitions)
		unless(t.Replicas >= 0, "Replicas", "must be at least 0, is %d", t.Replicas)
		unless(t.MaxMessageBytes >= 0, "MaxMessageBytes", "must be at least 0, is %d", t.MaxMessageBytes)
		unless(t.Retention >= -1, "Retention", "must be positive or -1, is %s", t.Retention)
	}
	return errors.Join(errs...)
}
