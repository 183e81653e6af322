package lab

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// Example stands for the *testing.T that an example does not have. What the harness
// reports goes to the example's output.
type Example struct {
	testing.TB
	ctx      context.Context
	cancel   context.CancelFunc
	cleanups []func()
}

// NewExample begins an example. Defer its End.
func NewExample() *Example {
	e := &Example{}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// End does what the testing package does when a test ends.
func (e *Example) End() {
	e.cancel()
	for _, f := range slices.Backward(e.cleanups) {
		f()
	}
}

// Helper does nothing.
func (e *Example) Helper() {}

// Name is the same for every example.
func (e *Example) Name() string { return "Example" }

// Context ends with End.
func (e *Example) Context() context.Context { return e.ctx }

// Cleanup has End call f.
func (e *Example) Cleanup(f func()) { e.cleanups = append(e.cleanups, f) }

// Log prints.
func (e *Example) Log(args ...any) { fmt.Println(args...) }

// Logf prints.
func (e *Example) Logf(f string, a ...any) { fmt.Printf(f+"\n", a...) }

// Error prints.
func (e *Example) Error(args ...any) { fmt.Println(args...) }

// Errorf prints.
func (e *Example) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }

// Fatal panics, which fails the example.
func (e *Example) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

// Fatalf panics, which fails the example.
func (e *Example) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// FailNow panics, which fails the example.
func (e *Example) FailNow() { panic("the example failed") }
