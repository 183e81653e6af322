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
	ctx      context.Context //nolint:containedctx // of the example
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

func (e *Example) Helper()                   {}
func (e *Example) Name() string              { return "Example" }
func (e *Example) Context() context.Context  { return e.ctx }
func (e *Example) Cleanup(f func())          { e.cleanups = append(e.cleanups, f) }
func (e *Example) Log(args ...any)           { fmt.Println(args...) }
func (e *Example) Logf(f string, a ...any)   { fmt.Printf(f+"\n", a...) }
func (e *Example) Error(args ...any)         { fmt.Println(args...) }
func (e *Example) Errorf(f string, a ...any) { fmt.Printf(f+"\n", a...) }
func (e *Example) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (e *Example) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (e *Example) FailNow()                  { panic("the example failed") }
