// Package doctor looks at the servers of a pipeline and says what would hurt it,
// each finding with what to do about it. It changes nothing.
package doctor

import (
	"fmt"
	"slices"
)

// Status grades a check.
type Status string

// The grades. A fail is a broken promise or a relay that refuses to run; a warn
// works today and may not tomorrow; a skip could not be looked at.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Check is one finding. Its JSON form is part of the command's interface.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`        // what was seen
	Fix    string `json:"fix,omitempty"` // what to do; empty if ok
}

// Failed counts the checks that are Fail.
func Failed(checks []Check) int {
	n := 0
	for _, c := range checks {
		if c.Status == Fail {
			n++
		}
	}
	return n
}

// report collects the findings of one server.
type report struct{ checks []Check }

func (r *report) ok(name, format string, args ...any) {
	r.checks = append(r.checks, Check{Name: name, Status: OK, Detail: fmt.Sprintf(format, args...)})
}

func (r *report) add(s Status, name, fix, format string, args ...any) {
	r.checks = append(r.checks, Check{Name: name, Status: s, Detail: fmt.Sprintf(format, args...), Fix: fix})
}

// when adds a bad finding of grade s if wrong holds, and a good one if not.
func (r *report) when(wrong bool, s Status, name, fix, format string, args ...any) {
	if wrong {
		r.add(s, name, fix, format, args...)
		return
	}
	r.ok(name, format, args...)
}

// Skipped is the finding for a server that the configuration does not name.
func Skipped(server, setting string) []Check {
	return []Check{{Name: server, Status: Skip, Detail: "not configured", Fix: "give --" + setting + " to have it checked"}}
}

// Worst returns the gravest status among checks.
func Worst(checks []Check) Status {
	order := []Status{Skip, OK, Warn, Fail}
	worst := Skip
	for _, c := range checks {
		if slices.Index(order, c.Status) > slices.Index(order, worst) {
			worst = c.Status
		}
	}
	return worst
}

// Find returns the status of the check of that name, Skip if there is none.
func Find(checks []Check, name string) Status {
	for _, c := range checks {
		if c.Name == name {
			return c.Status
		}
	}
	return Skip
}
