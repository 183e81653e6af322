package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
)

// The exit codes of all commands. A command that a signal interrupted ends with
// 128 plus the signal's number: 130 for SIGINT, 143 for SIGTERM. A service
// (relay) that a signal stopped and that drained in time ends with ExitOK.
const (
	ExitOK        = 0
	ExitFailure   = 1 // the command could not do its work, or a promise is broken
	ExitUsage     = 2 // wrong flags, arguments or configuration; nothing was done
	ExitUnhealthy = 3 // the look succeeded and what it saw is not well (doctor, lag)
)

// Interrupted is the cause of a context that a signal cancelled.
type Interrupted struct{ Signal syscall.Signal }

func (i Interrupted) Error() string { return "interrupted: " + i.Signal.String() }

// usageError makes the exit code ExitUsage.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// unhealthyError makes the exit code ExitUnhealthy. What is wrong was already
// part of the command's output.
type unhealthyError struct{ what string }

func (e unhealthyError) Error() string { return e.what }

// exitCode maps the outcome of a command.
func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return ExitOK
	}
	var sig Interrupted
	if errors.As(context.Cause(ctx), &sig) {
		return 128 + int(sig.Signal)
	}
	var usage usageError
	var unhealthy unhealthyError
	switch {
	case errors.As(err, &usage):
		return ExitUsage
	case errors.As(err, &unhealthy):
		return ExitUnhealthy
	}
	return ExitFailure
}

// report writes err for a human: one line, or a list if it joins several.
func report(w io.Writer, err error) {
	list := leaves(err)
	if len(list) == 1 {
		fmt.Fprintln(w, "millrace:", strings.ReplaceAll(list[0], "\n", "\n  "))
		return
	}
	fmt.Fprintf(w, "millrace: %d problems\n", len(list))
	for _, line := range list {
		fmt.Fprintln(w, "  -", strings.ReplaceAll(line, "\n", "\n    "))
	}
}

// leaves takes joined errors apart, at any depth of joins.
func leaves(err error) []string {
	if u, ok := err.(usageError); ok { //nolint:errorlint // one layer at a time
		return leaves(u.err)
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || fmt.Sprintf("%T", err) != "*errors.joinError" {
		return []string{err.Error()}
	}
	var out []string
	for _, e := range joined.Unwrap() {
		out = append(out, leaves(e)...)
	}
	return out
}
